//! What this mode programs depends on besides services: settings, and the node's addresses as they are now.

use std::collections::BTreeSet;
use std::net::IpAddr;

use endpoint_cache::{Desired, Family};
use kernel::link::Address;

use crate::Settings;
use crate::context::{Context, NodePortRanges, Unset};

/// Everything that a family's servers, sets and rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub(super) common: Context,
    /// The node's own addresses, but for those on our device.
    pub(super) local: BTreeSet<IpAddr>,
    /// Those among them at which node ports answer.
    pub(super) node_ports: BTreeSet<IpAddr>,
}

impl Surroundings {
    /// `others` are the node's addresses on devices other than ours.
    pub(super) fn new(family: Family, settings: &Settings, desired: &Desired, others: &[Address]) -> Self {
        let common = Context::new(family, settings, &desired.node, &desired.service_cidrs, Unset::All);
        // Each link has one that holds on it alone; links come and go with pods.
        let of_family =
            others.iter().filter(|found| Family::of(found.address) == family && !found.link_local_scope);
        let local: BTreeSet<_> = of_family.map(|found| found.address).collect();
        let answers = |address: &IpAddr| match &common.node_port_ranges {
            NodePortRanges::All => true,
            NodePortRanges::Within(ranges) => ranges.iter().any(|range| range.contains(address)),
        };
        // What comes from loopback cannot leave the node.
        let fit = local.iter().copied().filter(|address| !address.is_loopback());
        let node_ports = fit.filter(answers).collect();
        Self { common, local, node_ports }
    }
}
