//! What a program says of a connection: the same as the kernel does, told with its reason.

use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Protocol;
use endpoint_cache::object::ObjectName;
use ipnet::IpNet;

use crate::policy::Direction;
use crate::program::{Clause, Member, PortMatch, Profile, Program, SetKey};

/// A connection, between those whom it really connects: after the translation of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Who connects.
    pub source: IpAddr,
    /// Who is connected to.
    pub destination: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that is connected to.
    pub port: u16,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether its source may send it.
    pub egress: Side,
    /// Whether its destination may be sent it.
    pub ingress: Side,
}

/// The judgement of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// No policy isolates it (or it is no pod of this node).
    Free,
    /// A policy's rule allows it.
    Allowed {
        /// The policy.
        policy: ObjectName,
        /// The place of the rule in `spec.ingress` or `spec.egress`.
        rule: usize,
    },
    /// None of the policies that isolate it allows it.
    Denied(Arc<Profile>),
    /// The address is one of this node's pods', but no pod is known to have it.
    Unknown,
}

impl Side {
    /// Whether this side lets it pass, where pods that nobody knows are denied.
    #[must_use]
    pub fn allows(&self) -> bool {
        matches!(self, Self::Free | Self::Allowed { .. })
    }
}

impl Verdict {
    /// Whether the connection is allowed.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.egress.allows() && self.ingress.allows()
    }
}

impl Program {
    /// What becomes of a connection. A node's connections with its own pods, which are always allowed, are not to be asked
    /// for.
    #[must_use]
    pub fn verdict(&self, connection: &Connection) -> Verdict {
        if connection.source == connection.destination {
            return Verdict { egress: Side::Free, ingress: Side::Free };
        }
        Verdict {
            egress: self.side(Direction::Egress, connection),
            ingress: self.side(Direction::Ingress, connection),
        }
    }

    /// The judgement of one side. A pod's connections with itself are not to be asked for.
    #[must_use]
    pub fn side(&self, direction: Direction, connection: &Connection) -> Side {
        let (own, other) = match direction {
            Direction::Ingress => (connection.destination, connection.source),
            Direction::Egress => (connection.source, connection.destination),
        };
        let Some(profile) = self.subjects.get(&(direction, own)) else {
            let unknown =
                !self.pods.contains_key(&own) && self.ranges.iter().any(|range| range.contains(&own));
            return if unknown { Side::Unknown } else { Side::Free };
        };
        for policy in &profile.policies {
            let clauses = self.policies.get(&(direction, policy.clone()));
            let matching = |clause: &&Clause| self.matches(clause, other, connection);
            if let Some(clause) = clauses.and_then(|clauses| clauses.iter().find(matching)) {
                return Side::Allowed { policy: policy.clone(), rule: clause.rule };
            }
        }
        Side::Denied(profile.clone())
    }

    fn matches(&self, clause: &Clause, peer: IpAddr, to: &Connection) -> bool {
        let peer_matches = clause.peer.as_ref().is_none_or(|set| self.holds_address(set, peer));
        peer_matches
            && match &clause.port {
                PortMatch::All => true,
                PortMatch::Every(protocol) => *protocol == to.protocol,
                PortMatch::Numbers(protocol, first, last) => {
                    *protocol == to.protocol && (*first..=*last).contains(&to.port)
                }
                PortMatch::Named(set) => self.holds(set, &Member::Port(to.destination, to.protocol, to.port)),
            }
    }

    fn holds_address(&self, set: &SetKey, address: IpAddr) -> bool {
        match set {
            SetKey::Block(ranges) => ranges.iter().any(|range: &IpNet| range.contains(&address)),
            _ => self.holds(set, &Member::Address(address)),
        }
    }

    fn holds(&self, set: &SetKey, member: &Member) -> bool {
        self.sets.get(set).is_some_and(|members| members.contains_key(member))
    }
}
