//! A policy's rules as clauses: each peer at each port.

use std::sync::Arc;

use crate::policy::{Direction, Peer, Policy, Port, Rule};
use crate::program::{Clause, Clauses, PortMatch, SetKey};
use crate::selector::PodSelector;

/// What a policy allows in a direction.
pub(crate) fn clauses(policy: &Policy, direction: Direction) -> Clauses {
    let rules: &[Rule] = policy.rules(direction).map_or(&[], |rules| rules);
    let of_rule = |(number, rule): (usize, &Rule)| {
        let peers: Vec<Option<&Peer>> = match &rule.peers {
            None => vec![None],
            Some(peers) => peers.iter().map(Some).collect(),
        };
        let ports: Vec<Option<&Port>> = match &rule.ports {
            None => vec![None],
            Some(ports) => ports.iter().map(Some).collect(),
        };
        let pairs =
            peers.into_iter().flat_map(move |peer| ports.clone().into_iter().map(move |port| (peer, port)));
        pairs.map(|(peer, port)| clause(policy, direction, number, peer, port)).collect::<Vec<_>>()
    };
    let mut clauses: Vec<Clause> = rules.iter().enumerate().flat_map(of_rule).collect();
    clauses.dedup();
    clauses.into()
}

fn clause(
    policy: &Policy,
    direction: Direction,
    rule: usize,
    peer: Option<&Peer>,
    port: Option<&Port>,
) -> Clause {
    let set = peer.map(|peer| match peer {
        Peer::Pods(selector) => SetKey::Pods(selector.clone()),
        Peer::Block(ranges) => SetKey::Block(ranges.clone()),
    });
    let (peer, port) = match port {
        None => (set, PortMatch::All),
        Some(Port::Every(protocol)) => (set, PortMatch::Every(*protocol)),
        Some(Port::Numbers(protocol, first, last)) => (set, PortMatch::Numbers(*protocol, *first, *last)),
        Some(Port::Named(protocol, name)) => {
            // A name is the pod's that is connected to: the subject's on the way in, the peer's on the way out.
            let (peer, pods) = match (direction, set) {
                (Direction::Ingress, set) => (set, policy.subjects.clone()),
                (Direction::Egress, Some(SetKey::Pods(pods))) => (None, pods),
                (Direction::Egress, set) => (set, PodSelector::everything()),
            };
            (peer, PortMatch::Named(SetKey::Ports(pods, *protocol, Arc::clone(name))))
        }
    };
    Clause { rule, peer, port }
}

/// The sets that a clause refers to.
pub(crate) fn sets(clause: &Clause) -> impl Iterator<Item = &SetKey> {
    let named = match &clause.port {
        PortMatch::Named(set) => Some(set),
        _ => None,
    };
    clause.peer.iter().chain(named)
}
