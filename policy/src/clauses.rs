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

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, reason = "objects read best written in place")]

    use serde_json::{Value, json};

    use super::*;

    /// Each clause with its rule, its peer and its port.
    fn told(direction: Direction, spec: Value) -> Vec<String> {
        let written = json!({ "metadata": { "name": "it", "namespace": "red" }, "spec": spec });
        let (policy, mistakes) = Policy::read(&serde_json::from_value(written).unwrap());
        assert_eq!(mistakes, []);
        let of = |clause: &Clause| {
            let peer = clause.peer.as_ref().map_or("anybody".to_owned(), ToString::to_string);
            let port = match &clause.port {
                PortMatch::All => "all".to_owned(),
                PortMatch::Every(protocol) => protocol.as_str().to_owned(),
                PortMatch::Numbers(protocol, first, last) => format!("{} {first}-{last}", protocol.as_str()),
                PortMatch::Named(set) => format!("<{set}>"),
            };
            format!("{}: {peer} at {port}", clause.rule)
        };
        clauses(&policy, direction).iter().map(of).collect()
    }

    #[test]
    fn each_peer_at_each_port() {
        let spec = json!({ "ingress": [
            { "ports": [{ "protocol": "UDP" }] },
            {
                "from": [{ "podSelector": {} }, { "ipBlock": { "cidr": "10.0.0.0/8" } }],
                "ports": [{ "port": 80 }, { "port": 1, "endPort": 9, "protocol": "SCTP" }],
            },
            {},
        ] });
        assert_eq!(
            told(Direction::Ingress, spec.clone()),
            [
                "0: anybody at udp",
                "1: red: * at tcp 80-80",
                "1: red: * at sctp 1-9",
                "1: 10.0.0.0/8 at tcp 80-80",
                "1: 10.0.0.0/8 at sctp 1-9",
                "2: anybody at all",
            ]
        );
        assert_eq!(told(Direction::Egress, spec), [""; 0]);
    }

    #[test]
    fn names_are_of_the_pod_that_is_connected_to() {
        let peers = json!([{ "namespaceSelector": {} }, { "ipBlock": { "cidr": "10.0.0.0/8" } }]);
        let ports = json!([{ "port": "web" }]);
        let spec = json!({
            "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "from": peers, "ports": ports }],
            "egress": [{ "to": peers, "ports": ports }, { "ports": ports }],
        });
        assert_eq!(
            told(Direction::Ingress, spec.clone()),
            ["0: [*]: * at <web/tcp of red: app=db>", "0: 10.0.0.0/8 at <web/tcp of red: app=db>"]
        );
        assert_eq!(
            told(Direction::Egress, spec),
            [
                "0: anybody at <web/tcp of [*]: *>",
                "0: 10.0.0.0/8 at <web/tcp of *: *>",
                "1: anybody at <web/tcp of *: *>",
            ]
        );
    }
}
