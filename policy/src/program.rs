//! What a node has to enforce, and what changed of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::object::ObjectName;
use endpoint_cache::{Problem, Protocol};
use ipnet::IpNet;

use crate::digest::digest;
use crate::policy::Direction;
use crate::selector::PodSelector;

/// Everything that policies ask of one node.
///
/// A connection from or to a [subject](Program::subjects) is allowed if a clause of one of its profile's policies matches;
/// each direction for itself. What is no subject is not isolated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// What clauses refer to, and how many pods give each member (1 for blocks).
    pub sets: BTreeMap<SetKey, Members>,
    /// The policies that isolate somebody here.
    pub policies: BTreeMap<PolicyKey, Clauses>,
    /// The profiles of the subjects, and how many addresses have each.
    pub profiles: BTreeMap<Arc<Profile>, usize>,
    /// The addresses of this node's pods that are isolated in a direction.
    pub subjects: BTreeMap<(Direction, IpAddr), Arc<Profile>>,
    /// The addresses of all of this node's pods, isolated or not.
    pub pods: BTreeMap<IpAddr, ObjectName>,
    /// The ranges of this node's pods' addresses (`podCIDRs`).
    pub ranges: Vec<IpNet>,
}

/// The members of a set.
pub type Members = BTreeMap<Member, usize>;

/// A policy, in one direction.
pub type PolicyKey = (Direction, ObjectName);

/// What a policy allows in a direction: whatever one of these matches.
pub type Clauses = Arc<[Clause]>;

/// The policies that isolate a pod in a direction. Pods of a kind share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Profile {
    /// The direction.
    pub direction: Direction,
    /// Their names, in ascending order; at least one.
    pub policies: Vec<ObjectName>,
}

/// Part of one of a policy's rules: one peer at one port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Clause {
    /// Which rule of the policy: its place in `spec.ingress` or `spec.egress`.
    pub rule: usize,
    /// Who is at the other end; `None` for anybody.
    pub peer: Option<SetKey>,
    /// Which port is connected to.
    pub port: PortMatch,
}

/// Which ports of the pod that is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// All, of all protocols.
    All,
    /// All of a protocol.
    Every(Protocol),
    /// From the first to the last.
    Numbers(Protocol, u16, u16),
    /// Address, protocol and port that are connected to must be in this set.
    Named(SetKey),
}

/// What a set holds. Sets are shared by all clauses that ask for the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetKey {
    /// Addresses of pods.
    Pods(PodSelector),
    /// Address, protocol and number of what these pods call so.
    Ports(PodSelector, Protocol, Arc<str>),
    /// Addresses in disjoint ranges.
    Block(Arc<[IpNet]>),
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// An address.
    Address(IpAddr),
    /// A port at an address.
    Port(IpAddr, Protocol, u16),
    /// A range of addresses.
    Range(IpNet),
}

impl Profile {
    /// A name that tells it from others, the same in every build.
    #[must_use]
    pub fn name(&self) -> String {
        digest(&self.to_string())
    }

    /// What the log entries of packets begin with that it denies.
    #[must_use]
    pub fn log_prefix(&self) -> String {
        format!("policy/{}/{}", self.direction.as_str(), self.name())
    }
}

impl Member {
    /// Its address, or the first of the range.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Address(address) | Self::Port(address, ..) => *address,
            Self::Range(range) => range.network(),
        }
    }
}

impl fmt::Display for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(selector) => write!(f, "{selector}"),
            Self::Ports(selector, protocol, name) => write!(f, "{name}/{} of {selector}", protocol.as_str()),
            Self::Block(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                f.write_str(&ranges.join(" "))
            }
        }
    }
}

/// As `ingress of default/db, default/all`.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.policies.iter().map(ToString::to_string).collect();
        write!(f, "{} of {}", self.direction.as_str(), names.join(", "))
    }
}

/// Something before and after; never equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<T> {
    /// What the last delta left.
    pub before: Option<T>,
    /// What it is to be now.
    pub after: Option<T>,
}

/// The ranges of this node's pods' addresses, which changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangesChange {
    /// What the last delta left.
    pub before: Vec<IpNet>,
    /// What they are to be now.
    pub after: Vec<IpNet>,
}

/// A set that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// It is new. Its members are in the program.
    New,
    /// Its members changed.
    Members {
        /// Those that came.
        added: Vec<Member>,
        /// Those that went.
        removed: Vec<Member>,
    },
    /// It is gone.
    Gone,
}

/// All that changed since the last delta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Sets.
    pub sets: BTreeMap<SetKey, SetChange>,
    /// Policies that isolate somebody here.
    pub policies: BTreeMap<PolicyKey, Change<Clauses>>,
    /// Profiles that came (true) and went.
    pub profiles: BTreeMap<Arc<Profile>, bool>,
    /// Who is isolated by what.
    pub subjects: BTreeMap<(Direction, IpAddr), Change<Arc<Profile>>>,
    /// This node's pods.
    pub pods: BTreeMap<IpAddr, Change<ObjectName>>,
    /// This node's ranges, if they changed.
    pub ranges: Option<RangesChange>,
    /// News of objects that are not as they should be.
    pub problems: Vec<Problem>,
}

impl Delta {
    /// Whether there is nothing to program (there may still be problems to tell).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
            && self.policies.is_empty()
            && self.profiles.is_empty()
            && self.subjects.is_empty()
            && self.pods.is_empty()
            && self.ranges.is_none()
    }

    /// Whether a connection that was allowed may not be any more, so that those which are under way have to be judged
    /// again.
    #[must_use]
    pub fn tightens(&self) -> bool {
        self.ranges.is_some()
            || self.sets.values().any(SetChange::narrows)
            || self.policies.values().any(narrows_policy)
            || self.subjects.values().any(narrows_subject)
            || self.pods.values().any(|change| change.after.is_none())
    }
}

impl SetChange {
    fn narrows(&self) -> bool {
        // What referred to a set that is gone has changed, too.
        matches!(self, Self::Members { removed, .. } if !removed.is_empty())
    }
}

fn narrows_policy(change: &Change<Clauses>) -> bool {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => !before.iter().all(|clause| after.contains(clause)),
        // One that comes or goes changes profiles.
        _ => false,
    }
}

fn narrows_subject(change: &Change<Arc<Profile>>) -> bool {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => !before.policies.iter().all(|policy| after.policies.contains(policy)),
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    fn set(added: usize, removed: usize) -> Delta {
        let members = |count| vec![Member::Address(address()); count];
        let change = SetChange::Members { added: members(added), removed: members(removed) };
        Delta {
            sets: BTreeMap::from([(SetKey::Pods(PodSelector::everything()), change)]),
            ..Delta::default()
        }
    }

    fn policy(before: Option<&[u16]>, after: Option<&[u16]>) -> Delta {
        let clause = |port: &u16| Clause {
            rule: 0,
            peer: None,
            port: PortMatch::Numbers(Protocol::Tcp, *port, *port),
        };
        let clauses = |ports: Option<&[u16]>| ports.map(|ports| ports.iter().map(clause).collect());
        let change = Change { before: clauses(before), after: clauses(after) };
        let key = (Direction::Ingress, ObjectName::new("red", "it"));
        Delta { policies: BTreeMap::from([(key, change)]), ..Delta::default() }
    }

    fn subject(before: &[&str], after: &[&str]) -> Delta {
        let profile = |names: &[&str]| {
            let policies: Vec<ObjectName> = names.iter().map(|name| ObjectName::new("red", name)).collect();
            (!policies.is_empty()).then(|| Arc::new(Profile { direction: Direction::Egress, policies }))
        };
        let change = Change { before: profile(before), after: profile(after) };
        Delta { subjects: BTreeMap::from([((Direction::Egress, address()), change)]), ..Delta::default() }
    }

    fn pod(before: Option<&str>, after: Option<&str>) -> Delta {
        let name = |name: Option<&str>| name.map(|name| ObjectName::new("red", name));
        let change = Change { before: name(before), after: name(after) };
        Delta { pods: BTreeMap::from([(address(), change)]), ..Delta::default() }
    }

    #[test]
    fn what_may_deny_tightens() {
        let ranges = Delta { ranges: Some(RangesChange::default()), ..Delta::default() };
        for tightens in [
            set(0, 1),
            set(1, 1),
            policy(Some(&[80, 81]), Some(&[81])),
            policy(Some(&[80]), Some(&[81])),
            subject(&[], &["a"]),
            subject(&["a", "b"], &["a"]),
            subject(&["a"], &["b"]),
            pod(Some("a"), None),
            ranges,
        ] {
            assert!(tightens.tightens(), "{tightens:?}");
            assert!(!tightens.is_empty());
        }
    }

    #[test]
    fn what_only_allows_does_not() {
        for widens in [
            set(1, 0),
            policy(Some(&[80]), Some(&[81, 80])),
            policy(None, Some(&[80])),
            policy(Some(&[80]), None),
            subject(&["a"], &[]),
            subject(&["b"], &["a", "b"]),
            pod(None, Some("a")),
            pod(Some("a"), Some("b")),
        ] {
            assert!(!widens.tightens(), "{widens:?}");
            assert!(!widens.is_empty());
        }
        assert!(!Delta::default().tightens() && Delta::default().is_empty());
    }
}
