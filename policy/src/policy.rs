//! A NetworkPolicy, understood.

use std::sync::Arc;

use endpoint_cache::object::ObjectName;
use endpoint_cache::{Protocol, parse_range};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::object::{
    IpBlock, LabelSelector, NetworkPolicy, NetworkPolicyPort, Peer as WrittenPeer, PortOrName,
};
use crate::ranges::subtract;
use crate::selector::{Fault, Labels, Namespaces, PodSelector, Selector};

/// Which way connections go, as seen from the pod that a policy isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of it.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `ingress` or `egress`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Something in a policy that makes no sense. The API server would have refused the policy, so nothing is allowed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the field, as `kubectl explain` writes it: `spec.ingress[0].ports[1].endPort`.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

/// A NetworkPolicy, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Namespace and name.
    pub name: ObjectName,
    /// Which pods it isolates.
    pub subjects: PodSelector,
    /// What it lets in; `None` if it does not isolate in this direction.
    pub ingress: Option<Arc<[Rule]>>,
    /// What it lets out; `None` if it does not isolate in this direction.
    pub egress: Option<Arc<[Rule]>>,
}

/// One of a policy's rules: any of the peers, at any of the ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Who; `None` for anybody.
    pub peers: Option<Vec<Peer>>,
    /// At which ports; `None` for all, of all protocols.
    pub ports: Option<Vec<Port>>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// Pods.
    Pods(PodSelector),
    /// Addresses: disjoint ranges, in ascending order.
    Block(Arc<[IpNet]>),
}

/// Ports of the pod that is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// Every port of a protocol.
    Every(Protocol),
    /// From the first to the last.
    Numbers(Protocol, u16, u16),
    /// What the pod calls so.
    Named(Protocol, Arc<str>),
}

impl Policy {
    /// Makes sense of a policy. With mistakes, it isolates whatever it selects, as far as that can be told, and allows
    /// nothing.
    #[must_use]
    pub fn read(from: &NetworkPolicy) -> (Self, Vec<Mistake>) {
        let name = from.object_name();
        let mut reading = Reading { namespace: name.namespace.clone(), mistakes: Vec::new() };
        let spec = &from.spec;
        let subjects = PodSelector {
            namespaces: Namespaces::Named(name.namespace.clone()),
            pods: reading.selector("spec.podSelector", &spec.pod_selector),
        };
        let (isolates_ingress, isolates_egress) = reading.types(&spec.policy_types, !spec.egress.is_empty());
        let ingress: Vec<Rule> = enumerated("spec.ingress", &spec.ingress)
            .map(|(at, rule)| reading.rule(&at, "from", &rule.from, &rule.ports))
            .collect();
        let egress: Vec<Rule> = enumerated("spec.egress", &spec.egress)
            .map(|(at, rule)| reading.rule(&at, "to", &rule.to, &rule.ports))
            .collect();
        let sound = reading.mistakes.is_empty();
        let allowed = |isolates: bool, rules: Vec<Rule>| {
            isolates.then(|| if sound { rules.into() } else { Arc::default() })
        };
        let policy = Self {
            name,
            subjects,
            ingress: allowed(isolates_ingress, ingress),
            egress: allowed(isolates_egress, egress),
        };
        (policy, reading.mistakes)
    }

    /// Whether it isolates a pod of its namespace with such labels.
    pub(crate) fn isolates(&self, direction: Direction, pod: &Labels) -> bool {
        self.rules(direction).is_some() && self.subjects.pods.matches(pod)
    }

    /// What it allows in a direction; `None` if it does not isolate in it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&Arc<[Rule]>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

fn enumerated<'a, T>(list: &'a str, items: &'a [T]) -> impl Iterator<Item = (String, &'a T)> {
    items.iter().enumerate().map(move |(at, item)| (format!("{list}[{at}]"), item))
}

/// What has been found wrong so far.
struct Reading {
    namespace: Arc<str>,
    mistakes: Vec<Mistake>,
}

impl Reading {
    fn mistake(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.mistakes.push(Mistake { field: field.into(), reason: reason.into() });
    }

    fn selector(&mut self, field: &str, from: &LabelSelector) -> Selector {
        let (selector, faults) = Selector::read(from);
        let named = |(path, reason): Fault| Mistake { field: format!("{field}.{path}"), reason };
        self.mistakes.extend(faults.into_iter().map(named));
        selector
    }

    /// Whether it isolates ingress, and egress.
    fn types(&mut self, written: &[String], has_egress: bool) -> (bool, bool) {
        if written.len() > Direction::BOTH.len() {
            self.mistake("spec.policyTypes", "has more than two items");
        }
        let mut isolates = (written.is_empty(), written.is_empty() && has_egress);
        for (field, name) in enumerated("spec.policyTypes", written) {
            match name.as_str() {
                "Ingress" => isolates.0 = true,
                "Egress" => isolates.1 = true,
                // Either may have been meant.
                other => {
                    self.mistake(field, format!("{other:?} is neither Ingress nor Egress"));
                    isolates = (true, true);
                }
            }
        }
        isolates
    }

    fn rule(&mut self, field: &str, side: &str, peers: &[WrittenPeer], ports: &[NetworkPolicyPort]) -> Rule {
        let peers: Vec<Peer> = enumerated(&format!("{field}.{side}"), peers)
            .filter_map(|(field, peer)| self.peer(&field, peer))
            .collect();
        let ports: Vec<Port> = enumerated(&format!("{field}.ports"), ports)
            .filter_map(|(field, port)| self.port(&field, port))
            .collect();
        Rule { peers: (!peers.is_empty()).then_some(peers), ports: (!ports.is_empty()).then_some(ports) }
    }

    fn peer(&mut self, field: &str, peer: &WrittenPeer) -> Option<Peer> {
        if let Some(block) = &peer.ip_block {
            if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
                self.mistake(field, "has an ipBlock, beside which there may be no selector");
                return None;
            }
            return self.block(&format!("{field}.ipBlock"), block).map(Peer::Block);
        }
        if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
            self.mistake(field, "names nobody: one of podSelector, namespaceSelector and ipBlock is needed");
            return None;
        }
        let namespaces = match &peer.namespace_selector {
            None => Namespaces::Named(self.namespace.clone()),
            Some(selector) => {
                Namespaces::Matching(self.selector(&format!("{field}.namespaceSelector"), selector))
            }
        };
        let pods = peer.pod_selector.as_ref();
        let pods = pods.map(|selector| self.selector(&format!("{field}.podSelector"), selector));
        Some(Peer::Pods(PodSelector { namespaces, pods: pods.unwrap_or_default() }))
    }

    fn block(&mut self, field: &str, block: &IpBlock) -> Option<Arc<[IpNet]>> {
        let Some(cidr) = parse_range(&block.cidr) else {
            self.mistake(format!("{field}.cidr"), format!("{:?} is no range of addresses", block.cidr));
            return None;
        };
        let mut exceptions = Vec::new();
        for (field, text) in enumerated(&format!("{field}.except"), &block.except) {
            match parse_range(text) {
                None => self.mistake(field, format!("{text:?} is no range of addresses")),
                Some(range) if range == cidr || !cidr.contains(&range) => {
                    self.mistake(field, format!("{text} is not strictly within {}", block.cidr));
                }
                Some(range) => exceptions.push(range),
            }
        }
        Some(subtract(cidr, &exceptions).into())
    }

    fn port(&mut self, field: &str, port: &NetworkPolicyPort) -> Option<Port> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                self.mistake(format!("{field}.protocol"), format!("{other:?} is none of TCP, UDP and SCTP"));
                return None;
            }
        };
        match (&port.port, port.end_port) {
            (None, None) => Some(Port::Every(protocol)),
            (Some(PortOrName::Number(first)), last) => {
                self.numbers(field, *first, last).map(|(first, last)| Port::Numbers(protocol, first, last))
            }
            (Some(PortOrName::Name(name)), None) if is_port_name(name) => {
                Some(Port::Named(protocol, name.as_str().into()))
            }
            (Some(PortOrName::Name(name)), None) => {
                let rule = "up to 15 lower-case letters, digits and single dashes, with a letter among them";
                self.mistake(format!("{field}.port"), format!("{name:?} is no name of a port: {rule}"));
                None
            }
            (None | Some(PortOrName::Name(_)), Some(_)) => {
                self.mistake(format!("{field}.endPort"), "ends a range that port does not begin by a number");
                None
            }
        }
    }

    fn numbers(&mut self, field: &str, first: i64, last: Option<i32>) -> Option<(u16, u16)> {
        let number = |number: i64| u16::try_from(number).ok().filter(|port| *port > 0);
        let Some(begin) = number(first) else {
            self.mistake(format!("{field}.port"), format!("{first} is not between 1 and 65535"));
            return None;
        };
        let Some(last) = last else { return Some((begin, begin)) };
        match number(last.into()) {
            Some(end) if end >= begin => Some((begin, end)),
            Some(_) => {
                self.mistake(format!("{field}.endPort"), format!("{last} is below port {first}"));
                None
            }
            None => {
                self.mistake(format!("{field}.endPort"), format!("{last} is not between 1 and 65535"));
                None
            }
        }
    }
}

/// `IANA_SVC_NAME` (RFC 6335).
fn is_port_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 15
        && name.bytes().all(allowed)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, reason = "objects read best written in place")]

    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> (Policy, Vec<Mistake>) {
        let policy = json!({ "metadata": { "name": "it" }, "spec": spec });
        Policy::read(&serde_json::from_value(policy).unwrap())
    }

    #[test]
    fn rules_are_understood() {
        let (policy, mistakes) = read(json!({
            "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{
                "from": [
                    { "podSelector": {} },
                    { "namespaceSelector": {} },
                    { "ipBlock": { "cidr": "10.0.0.9/30", "except": ["10.0.0.10/32"] } },
                ],
                "ports": [{}, { "port": "web", "protocol": "UDP" }, { "port": 80, "endPort": 82 }, { "port": 9 }],
            }, {}],
        }));
        assert_eq!(mistakes, []);
        assert_eq!(policy.name, ObjectName::new("default", "it"));
        assert_eq!(policy.subjects.to_string(), "default: app=db");
        assert_eq!(policy.egress, None);
        let nets = ["10.0.0.8/31", "10.0.0.11/32"].map(|net| net.parse::<IpNet>().unwrap());
        let everywhere = PodSelector { namespaces: Namespaces::Matching(Selector::default()), ..here() };
        let peers = vec![Peer::Pods(here()), Peer::Pods(everywhere), Peer::Block(nets.into())];
        let ports = vec![
            Port::Every(Protocol::Tcp),
            Port::Named(Protocol::Udp, "web".into()),
            Port::Numbers(Protocol::Tcp, 80, 82),
            Port::Numbers(Protocol::Tcp, 9, 9),
        ];
        let rules = [Rule { peers: Some(peers), ports: Some(ports) }, Rule { peers: None, ports: None }];
        assert_eq!(policy.ingress.as_deref(), Some(&rules[..]));
    }

    fn here() -> PodSelector {
        PodSelector { namespaces: Namespaces::Named("default".into()), pods: Selector::default() }
    }

    #[test]
    fn with_a_mistake_it_isolates_and_allows_nothing() {
        let (policy, mistakes) = read(json!({
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "ports": [{ "port": 80 }, { "port": 0 }] }],
            "egress": [{}],
        }));
        let reason = "0 is not between 1 and 65535".to_owned();
        assert_eq!(mistakes, [Mistake { field: "spec.ingress[0].ports[1].port".to_owned(), reason }]);
        assert_eq!(policy.ingress.as_deref(), Some(&[][..]));
        assert_eq!(policy.egress.as_deref(), Some(&[][..]));
        assert_eq!(policy.subjects, here());
    }

    #[test]
    fn directions_that_it_isolates() {
        let isolates = |spec: Value| {
            let (policy, _) = read(spec);
            Direction::BOTH.map(|direction| policy.isolates(direction, &Labels::new()))
        };
        assert_eq!(isolates(json!({})), [true, false]);
        assert_eq!(isolates(json!({ "egress": [{}] })), [true, true]);
        assert_eq!(isolates(json!({ "policyTypes": ["Egress"] })), [false, true]);
        assert_eq!(isolates(json!({ "policyTypes": ["Ingress"], "egress": [{}] })), [true, false]);
        assert_eq!(isolates(json!({ "policyTypes": ["Ingress", "egress"] })), [true, true]);
        let others = json!({ "matchLabels": { "app": "db" } });
        assert_eq!(isolates(json!({ "podSelector": others })), [false, false]);
    }
}
