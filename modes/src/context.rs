//! What rules depend on besides services: the user's settings and the node, resolved for one family.
//! The same for every mode that writes rules.

use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::{Family, NodeState};
use ipnet::IpNet;

use crate::settings::{DetectLocal, NodePortAddresses, Settings};

/// How this family tells traffic of the node's own pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detector {
    /// It cannot.
    None,
    /// By source address.
    Source(IpNet),
    /// By the interface that the packet came in on.
    Interface(String),
    /// By the beginning of the interface's name.
    InterfacePrefix(String),
}

/// On which local addresses node ports answer. What becomes of loopback is up to the mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodePortRanges {
    /// All of them.
    All,
    /// Those within these ranges.
    Within(Vec<IpNet>),
}

/// Where node ports answer in a mode if the user does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unset {
    /// On the Node's primary address of each family.
    Primary,
    /// On every local address.
    All,
}

/// Everything that the rules of a family depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) family: Family,
    pub(crate) masquerade_mark: u32,
    pub(crate) masquerade_all: bool,
    pub(crate) detector: Detector,
    pub(crate) node_port_ranges: NodePortRanges,
    /// The node's own addresses of this family: clients within source ranges may be the node itself.
    pub(crate) node_addresses: Vec<IpAddr>,
    pub(crate) service_cidrs: Vec<IpNet>,
}

impl Context {
    /// `unset` is where node ports answer in this mode if the user did not say.
    pub(crate) fn new(
        family: Family,
        settings: &Settings,
        node: &NodeState,
        service_cidrs: &Arc<[IpNet]>,
        unset: Unset,
    ) -> Self {
        let of_family = |cidrs: &[IpNet]| -> Vec<IpNet> {
            cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).map(IpNet::trunc).collect()
        };
        let primary = primary_address(family, settings, node);
        let node_addresses = node.addresses.iter().copied().filter(|ip| Family::of(*ip) == family);
        let mut node_addresses: Vec<_> = node_addresses.chain(primary).collect();
        node_addresses.sort_unstable();
        node_addresses.dedup();
        let node_address_known = settings.node_address.is_some() || !node.addresses.is_empty();
        Self {
            family,
            masquerade_mark: 1 << settings.masquerade_bit,
            masquerade_all: settings.masquerade_all,
            detector: match &settings.detect_local {
                DetectLocal::ClusterCidr(cidrs) => source_detector(of_family(cidrs)),
                DetectLocal::NodeCidr => source_detector(of_family(&node.pod_cidrs)),
                DetectLocal::BridgeInterface(name) => Detector::Interface(name.clone()),
                DetectLocal::InterfaceNamePrefix(prefix) => Detector::InterfacePrefix(prefix.clone()),
            },
            node_port_ranges: match &settings.node_port_addresses {
                NodePortAddresses::Cidrs(cidrs) => match of_family(cidrs) {
                    ranges if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) => {
                        NodePortRanges::All
                    }
                    ranges => NodePortRanges::Within(ranges),
                },
                NodePortAddresses::Default if unset == Unset::All => NodePortRanges::All,
                NodePortAddresses::Default | NodePortAddresses::Primary if node_address_known => {
                    NodePortRanges::Within(primary.map(IpNet::from).into_iter().collect())
                }
                NodePortAddresses::Default | NodePortAddresses::Primary => NodePortRanges::All,
            },
            node_addresses,
            service_cidrs: of_family(service_cidrs),
        }
    }
}

fn source_detector(cidrs: Vec<IpNet>) -> Detector {
    cidrs.into_iter().next().map_or(Detector::None, Detector::Source)
}

/// The user's address, else the Node's first of the family; never loopback.
fn primary_address(family: Family, settings: &Settings, node: &NodeState) -> Option<IpAddr> {
    let candidates = settings.node_address.iter().chain(&node.addresses);
    candidates.copied().find(|ip| Family::of(*ip) == family && !ip.is_loopback())
}
