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
        let of_family = |cidrs: &[IpNet]| ranges_of(family, cidrs);
        let primary = primary_address(family, settings, node);
        let node_addresses = node.addresses.iter().copied().filter(|ip| Family::of(*ip) == family);
        let mut node_addresses: Vec<_> = node_addresses.chain(primary).collect();
        node_addresses.sort_unstable();
        node_addresses.dedup();
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
            node_port_ranges: NodePortRanges::of(family, settings, node, unset),
            node_addresses,
            service_cidrs: of_family(service_cidrs),
        }
    }
}

impl NodePortRanges {
    fn of(family: Family, settings: &Settings, node: &NodeState, unset: Unset) -> Self {
        let node_address_known = settings.node_address.is_some() || !node.addresses.is_empty();
        match &settings.node_port_addresses {
            NodePortAddresses::Cidrs(cidrs) => match ranges_of(family, cidrs) {
                ranges if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) => {
                    Self::All
                }
                ranges => Self::Within(ranges),
            },
            NodePortAddresses::Default if unset == Unset::All => Self::All,
            NodePortAddresses::Default | NodePortAddresses::Primary if node_address_known => {
                let primary = primary_address(family, settings, node);
                Self::Within(primary.map(IpNet::from).into_iter().collect())
            }
            NodePortAddresses::Default | NodePortAddresses::Primary => Self::All,
        }
    }
}

/// The node's own addresses that node ports answer on, for whoever answers on ports of the node without a rule in the
/// kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortReach {
    v4: NodePortRanges,
    v6: NodePortRanges,
}

impl NodePortReach {
    /// As a mode has it that makes node ports answer everywhere, or on the primary addresses alone, if the user does not
    /// say ([`Mode::node_ports_everywhere`](crate::Mode::node_ports_everywhere)).
    #[must_use]
    pub fn new(settings: &Settings, node: &NodeState, everywhere: bool) -> Self {
        let unset = if everywhere { Unset::All } else { Unset::Primary };
        let of = |family| NodePortRanges::of(family, settings, node, unset);
        Self { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// Whether they answer on one of the node's addresses.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        let ranges = match Family::of(address) {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        match ranges {
            NodePortRanges::All => true,
            NodePortRanges::Within(ranges) => ranges.iter().any(|range| range.contains(&address)),
        }
    }
}

fn ranges_of(family: Family, cidrs: &[IpNet]) -> Vec<IpNet> {
    cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).map(IpNet::trunc).collect()
}

fn source_detector(cidrs: Vec<IpNet>) -> Detector {
    cidrs.into_iter().next().map_or(Detector::None, Detector::Source)
}

/// The user's address, else the Node's first of the family; never loopback.
fn primary_address(family: Family, settings: &Settings, node: &NodeState) -> Option<IpAddr> {
    let candidates = settings.node_address.iter().chain(&node.addresses);
    candidates.copied().find(|ip| Family::of(*ip) == family && !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn included(reach: &NodePortReach, addresses: &[&str]) -> Vec<bool> {
        addresses.iter().map(|address| reach.includes(address.parse().unwrap())).collect()
    }

    #[test]
    fn node_ports_reach_what_the_mode_and_the_user_say() {
        let addresses = ["192.168.0.2", "192.168.1.2", "fd00::2", "fd00::3"];
        let known = NodeState {
            addresses: ["192.168.0.2", "fd00::2"].map(|address| address.parse().unwrap()).to_vec(),
            ..NodeState::default()
        };
        let with = |node_port_addresses| Settings { node_port_addresses, ..Settings::default() };
        let (primary, unsaid) = (with(NodePortAddresses::Primary), Settings::default());
        let cidr = with(NodePortAddresses::Cidrs(vec!["192.168.1.0/24".parse().unwrap()]));
        for (settings, node, everywhere, expected) in [
            (&unsaid, &known, true, [true; 4]),
            (&unsaid, &known, false, [true, false, true, false]),
            (&unsaid, &NodeState::default(), false, [true; 4]),
            (&primary, &known, true, [true, false, true, false]),
            (&cidr, &known, true, [false, true, true, true]),
        ] {
            let reach = NodePortReach::new(settings, node, everywhere);
            assert_eq!(included(&reach, &addresses), expected, "{settings:?}, {everywhere}");
        }
    }
}
