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
pub(crate) enum Missing {
    /// Whatever the server says of Nodes.
    Word,
    /// The Node.
    Node,
    /// Its addresses.
    Addresses,
    /// Its pods' ranges.
    PodCidrs,
}

/// How the wait stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    since: Instant,
    /// What was last told to be waited for.
    told: Option<Missing>,
    /// What was last warned of that it is waited for no longer.
    warned: Option<Missing>,
}

impl Waiting {
    /// The wait begins.
    pub(crate) fn since(since: Instant) -> Self {
        Self { since, told: None, warned: None }
    }
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
    fn until(self, since: Instant) -> Instant {
        since
            + match self {
                Self::Word | Self::Node | Self::Addresses => NODE_WITHIN,
                Self::PodCidrs => POD_CIDRS_WITHIN,
            }
    }
}

impl NodeWait {
    /// Until when the first sync has to wait, if it has to; tells what is waited for, and warns of what no longer is,
    /// each once.
    pub(crate) fn until(
        &self,
        eligibility: Eligibility,
        node: &NodeState,
        waiting: &mut Waiting,
        now: Instant,
    ) -> Option<Instant> {
        let name = &self.node_name;
        let missing = self.missing(eligibility, node).into_iter();
        let (awaited, given_up): (Vec<_>, Vec<_>) =
            missing.partition(|missing| now < missing.until(waiting.since));
        for missing in given_up {
            if waiting.warned.replace(missing) != Some(missing) {
                tracing::warn!("{}", self.warning(missing));
            }
        }
        let missing = *awaited.first()?;
        let until = missing.until(waiting.since);
        let (at_most, is_news) = (until - now, waiting.told.replace(missing) != Some(missing));
        // What the server has not said yet comes in a moment, as a rule.
        if missing == Missing::Word {
            tracing::debug!(?at_most, "waiting for Node {name:?}: {missing}");
        } else if is_news {
            tracing::info!(?at_most, "waiting for Node {name:?}: {missing}");
        }
        Some(until)
    }

    /// What is missing of the Node; first what is not waited for as long.
    fn missing(&self, eligibility: Eligibility, node: &NodeState) -> Vec<Missing> {
        match eligibility {
            Eligibility::Unknown => return vec![Missing::Word],
            Eligibility::Missing => return vec![Missing::Node],
            _ => {}
        }
        let addresses = (self.addresses && node.addresses.is_empty()).then_some(Missing::Addresses);
        let pod_cidrs = (self.pod_cidrs && node.pod_cidrs.is_empty()).then_some(Missing::PodCidrs);
        addresses.into_iter().chain(pod_cidrs).collect()
    }

    /// What does not work without what is missing, and how to mend it.
    fn warning(&self, missing: Missing) -> String {
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
            (wait(true, true), Eligibility::Unknown, &bare, vec![Missing::Word]),
            (wait(false, false), Eligibility::Missing, &bare, vec![Missing::Node]),
            (wait(true, true), there, &bare, vec![Missing::Addresses, Missing::PodCidrs]),
            (wait(false, true), there, &bare, vec![Missing::PodCidrs]),
            (wait(false, false), there, &bare, vec![]),
            (wait(true, true), there, &addressed, vec![Missing::PodCidrs]),
            (wait(true, false), Eligibility::ToBeDeleted, &addressed, vec![]),
            (wait(true, true), there, &ranged, vec![]),
        ] {
            assert_eq!(wait.missing(eligibility, node), expected, "{wait:?} {eligibility:?} {node:?}");
        }
    }
    #[test]
    fn each_thing_is_waited_for_as_long_as_it_may_take_and_warned_of_once() {
        let node_wait = NodeWait { node_name: "node".to_owned(), addresses: true, pod_cidrs: true };
        let (bare, start) = (NodeState::default(), Instant::now());
        let mut waiting = Waiting::since(start);
        let mut at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let until = node_wait.until(Eligibility::Eligible, &bare, &mut waiting, now);
            (until.map(|until| (until - start).as_secs()), waiting.told, waiting.warned)
        };
        let (addresses, pod_cidrs) = (Some(Missing::Addresses), Some(Missing::PodCidrs));
        assert_eq!(at(0), (Some(30), addresses, None));
        assert_eq!(at(30), (Some(300), pod_cidrs, addresses));
        assert_eq!(at(299), (Some(300), pod_cidrs, addresses));
        assert_eq!(at(300), (None, pod_cidrs, pod_cidrs));
    }
}
