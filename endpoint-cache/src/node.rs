//! The own Node, whether load balancers should use it, and the ranges that ClusterIPs come from.

use ipnet::IpNet;

use crate::NodeState;
use crate::address::parse_range;
use crate::field::{excerpt, read_usable};
use crate::object::{Node, ServiceCidr};
use crate::problem::Findings;

const ZONE: &str = "topology.kubernetes.io/zone";
/// What the cluster autoscaler taints a node with that it will delete (KEP-3836).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Whether load balancers should send traffic to the own Node. No rule depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eligibility {
    /// Nothing has been heard of the Node, and no list of Nodes been taken in.
    #[default]
    Unknown,
    /// It is there to stay.
    Eligible,
    /// It has a `deletionTimestamp`.
    BeingDeleted,
    /// It has the taint `ToBeDeletedByClusterAutoscaler`.
    ToBeDeleted,
    /// There was a list of Nodes, and it is not there.
    Missing,
}

impl Eligibility {
    /// Whether nothing speaks against it.
    #[must_use]
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Unknown | Self::Eligible)
    }

    /// Whether there is a Node.
    pub(crate) fn is_there(self) -> bool {
        matches!(self, Self::Eligible | Self::BeingDeleted | Self::ToBeDeleted)
    }

    pub(crate) fn of(node: &Node) -> Self {
        let is_tainted = node.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED);
        match node.metadata.deletion_timestamp {
            Some(_) => Self::BeingDeleted,
            None if is_tainted => Self::ToBeDeleted,
            None => Self::Eligible,
        }
    }
}

/// What programming depends on of the own Node.
pub(crate) fn read_node(node: &Node, findings: &mut Findings) -> NodeState {
    let addresses = node.status.addresses.iter().enumerate();
    let mut of_type = |wanted: &str| -> Vec<_> {
        let wanted = addresses.clone().filter(|(_, address)| address.address_type == wanted);
        wanted
            .filter_map(|(index, address)| {
                read_usable(&address.address, &format!("status.addresses[{index}].address"), findings)
            })
            .collect()
    };
    let addresses = [of_type("InternalIP"), of_type("ExternalIP")].concat();
    let pod_cidrs = if node.spec.pod_cidrs.is_empty() && !node.spec.pod_cidr.is_empty() {
        read_ranges(std::slice::from_ref(&node.spec.pod_cidr), "spec.podCIDR", findings)
    } else {
        read_ranges(&node.spec.pod_cidrs, "spec.podCIDRs", findings)
    };
    let zone = node.metadata.labels.get(ZONE).filter(|zone| !zone.is_empty());
    NodeState { addresses, pod_cidrs, zone: zone.map(|zone| zone.as_str().into()) }
}

/// The ranges of a ServiceCIDR.
pub(crate) fn read_service_cidr(service_cidr: &ServiceCidr, findings: &mut Findings) -> Vec<IpNet> {
    read_ranges(&service_cidr.spec.cidrs, "spec.cidrs", findings)
}

fn read_ranges(texts: &[String], field: &str, findings: &mut Findings) -> Vec<IpNet> {
    let mut ranges = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match parse_range(text) {
            Some(range) => ranges.push(range),
            None => findings.add(
                format!("{field}[{index}]"),
                format!("{} is no range of addresses: left out.", excerpt(text)),
            ),
        }
    }
    ranges
}
