//! Whether what rules depend on of the Node is known, so that the first sync can come.

use std::fmt;
use std::time::{Duration, Instant};

use endpoint_cache::{Eligibility, NodeState};

/// How long the Node and its addresses are waited for, as in kube-proxy.
const NODE_WITHIN: Duration = Duration::from_secs(30);
/// How long its pods' ranges are waited for, as in kube-proxy.
const POD_CIDRS_WITHIN: Duration = Duration::from_secs(300);

/// Waits for the own Node before the first sync, though not for ever. What an earlier process left is in force meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeWait {
    /// The name that is looked for.
    pub(crate) node_name: String,
    /// Whether its addresses are needed, since the user gave none.
    pub(crate) addresses: bool,
    /// Whether its pods' ranges are needed (`--detect-local-mode=NodeCIDR`).
    pub(crate) pod_cidrs: bool,
}

/// What is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Whatever the server says of Nodes.
    Word,
    /// The Node.
    Node,
    /// Its addresses.
    Addresses,
    /// Its pods' ranges.
    PodCidrs,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => "nothing has been heard of it yet",
            Self::Node => "there is none of this name (--hostname-override)",
            Self::Addresses => "it has no InternalIP or ExternalIP",
            Self::PodCidrs => "it has no podCIDRs",
        })
    }
}

impl Missing {
    /// Until when it is worth waiting for, by who has waited since a moment.
    pub(super) fn until(self, since: Instant) -> Instant {
        since
            + match self {
                Self::Word | Self::Node | Self::Addresses => NODE_WITHIN,
                Self::PodCidrs => POD_CIDRS_WITHIN,
            }
    }
}

impl NodeWait {
    /// What is missing of the Node, if anything is.
    pub(super) fn missing(&self, eligibility: Eligibility, node: &NodeState) -> Option<Missing> {
        match eligibility {
            Eligibility::Unknown => Some(Missing::Word),
            Eligibility::Missing => Some(Missing::Node),
            _ if self.addresses && node.addresses.is_empty() => Some(Missing::Addresses),
            _ if self.pod_cidrs && node.pod_cidrs.is_empty() => Some(Missing::PodCidrs),
            _ => None,
        }
    }

    /// What does not work without what is missing, and how to mend it.
    pub(super) fn warning(&self, missing: Missing) -> String {
        let name = &self.node_name;
        match missing {
            Missing::Word => format!(
                "nothing is heard of Node {name:?}: going on without its addresses, pod ranges and zone until it is \
                 (may this account list nodes? bind it to the ClusterRole system:node-proxier)"
            ),
            Missing::Node => format!(
                "there is no Node {name:?}: going on without its addresses, pod ranges and zone, so that endpoints here \
                 are not told from others by zone, and primary addresses and NodeCIDR mean nothing until it appears \
                 (kubectl get nodes; give the right name with --hostname-override)"
            ),
            Missing::Addresses => format!(
                "Node {name:?} has no InternalIP or ExternalIP: going on without, so that node ports answer on every \
                 address of the node until it has (is the cloud controller at work? or give --bind-address)"
            ),
            Missing::PodCidrs => format!(
                "Node {name:?} has no podCIDRs: going on without, so that traffic of its pods is not told from other \
                 traffic until it has (does the controller manager allocate them? or use another \
                 --detect-local-mode)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_of_a_node_is_what_is_waited_for() {
        let bare = NodeState::default();
        let addressed = NodeState { addresses: vec!["192.0.2.1".parse().unwrap()], ..NodeState::default() };
        let ranged = NodeState { pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()], ..addressed.clone() };
        let wait = |addresses, pod_cidrs| NodeWait { node_name: "node".to_owned(), addresses, pod_cidrs };
        let there = Eligibility::Eligible;
        for (wait, eligibility, node, expected) in [
            (wait(true, true), Eligibility::Unknown, &bare, Some(Missing::Word)),
            (wait(false, false), Eligibility::Missing, &bare, Some(Missing::Node)),
            (wait(true, true), there, &bare, Some(Missing::Addresses)),
            (wait(false, true), there, &bare, Some(Missing::PodCidrs)),
            (wait(false, false), there, &bare, None),
            (wait(true, true), there, &addressed, Some(Missing::PodCidrs)),
            (wait(true, false), Eligibility::ToBeDeleted, &addressed, None),
            (wait(true, true), there, &ranged, None),
        ] {
            assert_eq!(wait.missing(eligibility, node), expected, "{wait:?} {eligibility:?} {node:?}");
        }
    }
}
