//! Clusters and policies at random, out of so few names, labels, addresses and ports that they meet.

use std::net::IpAddr;

use endpoint_cache::Protocol;
use endpoint_cache::object::{Kind, Metadata, Node, NodeSpec, ObjectName, ObjectRef};
use policy::object::{
    Container, ContainerPort, EgressRule, IngressRule, IpBlock, LabelSelector, Namespace, NetworkPolicy,
    NetworkPolicyPort, NetworkPolicySpec, Peer, Pod, PodIp, PodSpec, PodStatus, PortOrName, Requirement,
};
use policy::{Connection, Labels, Update};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) const OWN_NODE: &str = "own";
const NODES: [(&str, &str); 2] = [(OWN_NODE, "192.168.0.1"), ("other", "192.168.0.2")];
const NAMESPACES: [&str; 3] = ["blue", "green", "red"];
const PODS: [&str; 4] = ["p0", "p1", "p2", "p3"];
const POLICIES: [&str; 3] = ["x", "y", "z"];
const V4: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1"];
const V6: [&str; 3] = ["fd00::1", "fd00::2", "fd00:1::1"];
const OTHERS: [&str; 6] = ["10.0.0.6", "192.168.0.1", "192.168.0.2", "172.16.0.1", "fd00::6", "2001:db8::1"];
const NODE_RANGES: [&[&str]; 4] = [&[], &["10.0.0.0/29"], &["10.0.0.0/29", "fd00::/125"], &["10.0.0.0/30"]];
const PORTS: [u16; 4] = [53, 80, 81, 8080];
const TYPES: [&[&str]; 4] = [&[], &["Ingress"], &["Egress"], &["Ingress", "Egress"]];
const WRONG_TYPES: [&[&str]; 3] = [&["Egress", "Ingress", "Egress"], &["Egres"], &["Egress", "ingress"]];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Every address to every other of its family, at every port.
pub(crate) fn probes() -> Vec<Connection> {
    let all = V4.iter().chain(&V6).chain(&OTHERS);
    let all: Vec<IpAddr> = all.map(|text| text.parse().expect("an address")).collect();
    let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
    let pairs = pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
    let ports = PROTOCOLS.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol, port)));
    pairs
        .flat_map(|(source, destination)| {
            ports.clone().map(move |(protocol, port)| Connection { source, destination, protocol, port })
        })
        .collect()
}

/// One of these, as a string.
fn one(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn metadata(namespace: &str, name: &str, labels: Labels) -> Metadata {
    Metadata { name: name.into(), namespace: namespace.into(), labels, ..Metadata::default() }
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(one(&["app", "tier"]), one(&["", "a", "b"]), 0..3)
}

pub(crate) fn namespace() -> impl Strategy<Value = Update> {
    (select(&NAMESPACES[..]), labels())
        .prop_map(|(name, labels)| Update::Namespace(Namespace { metadata: metadata("", name, labels) }))
}

pub(crate) fn node() -> impl Strategy<Value = Update> {
    let ranges = select(&NODE_RANGES[..]);
    (prop_oneof![4 => Just(OWN_NODE), 1 => Just("other")], ranges).prop_map(|(name, ranges)| {
        let pod_cidrs: Vec<String> = ranges.iter().map(|range| (*range).to_owned()).collect();
        let pod_cidr = pod_cidrs.first().cloned().unwrap_or_default();
        let spec = NodeSpec { pod_cidr, pod_cidrs, ..NodeSpec::default() };
        Update::Node(Node { metadata: metadata("", name, Labels::new()), spec, ..Node::default() })
    })
}

fn container_port() -> impl Strategy<Value = ContainerPort> {
    let name = one(&["web", "web", "dns", ""]);
    (name, select(&PORTS[..]), one(&["", "TCP", "UDP", "SCTP"]))
        .prop_map(|(name, number, protocol)| ContainerPort { name, container_port: number.into(), protocol })
}

fn containers() -> impl Strategy<Value = Vec<Container>> {
    vec(vec(container_port(), 0..3).prop_map(|ports| Container { ports }), 0..3)
}

pub(crate) fn pod() -> impl Strategy<Value = Update> {
    let who = (select(&NAMESPACES[..]), select(&PODS[..]), labels());
    let node = prop_oneof![3 => Just(NODES[0]), 1 => Just(NODES[1])];
    let phase =
        prop_oneof![8 => Just("Running"), 1 => Just("Succeeded"), 1 => Just("Failed"), 1 => Just("Pending")];
    let created =
        option::of(select(&["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "2023-12-31T23:59:59Z"][..]));
    let addresses = (option::weighted(0.9, one(&V4)), option::weighted(0.4, one(&V6)), any::<bool>());
    let containers = (containers(), prop_oneof![2 => Just(Vec::new()), 1 => containers()]);
    (who, node, prop::bool::weighted(0.1), phase, created, addresses, containers).prop_map(
        |(
            (namespace, name, labels),
            (node, node_ip),
            host,
            phase,
            created,
            (v4, v6, v4_first),
            containers,
        )| {
            let mut ips: Vec<String> = [v4, v6].into_iter().flatten().collect();
            if !v4_first {
                ips.reverse();
            }
            if host {
                ips = vec![node_ip.to_owned()];
            }
            let mut metadata = metadata(namespace, name, labels);
            metadata.creation_timestamp = created.map(str::to_owned);
            Update::Pod(Pod {
                metadata,
                spec: PodSpec {
                    node_name: node.to_owned(),
                    host_network: host,
                    containers: containers.0,
                    init_containers: containers.1,
                },
                status: PodStatus {
                    phase: phase.to_owned(),
                    pod_ip: ips.first().cloned().unwrap_or_default(),
                    pod_ips: ips.into_iter().map(|ip| PodIp { ip }).collect(),
                },
            })
        },
    )
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let key = one(&["app", "tier"]);
    let values = || vec(one(&["", "a", "b"]), 1..3);
    let listed = (key, one(&["In", "NotIn"]), values());
    let there = (one(&["app", "tier"]), one(&["Exists", "DoesNotExist"]), Just(Vec::new()));
    let wrong = prop_oneof![
        (one(&["app"]), one(&["In", "NotIn", "in", "Gt"]), Just(Vec::new())),
        (one(&["app", "", "no key"]), one(&["Exists", "DoesNotExist", ""]), values()),
        (one(&["", "no key"]), one(&["DoesNotExist"]), Just(Vec::new())),
    ];
    let any = prop_oneof![20 => listed, 20 => there, 1 => wrong];
    any.prop_map(|(key, operator, values)| Requirement { key, operator, values })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let some = (labels(), vec(requirement(), 0..3));
    prop_oneof![1 => Just(LabelSelector::default()), 3 => some.prop_map(|(match_labels, match_expressions)| {
        LabelSelector { match_labels, match_expressions }
    })]
}

/// By the name that the API server gives as a label.
fn by_name() -> impl Strategy<Value = LabelSelector> {
    let requirement =
        |values| Requirement { key: "kubernetes.io/metadata.name".into(), operator: "In".into(), values };
    vec(one(&NAMESPACES), 1..3).prop_map(move |values| LabelSelector {
        match_expressions: vec![requirement(values)],
        ..LabelSelector::default()
    })
}

fn block() -> impl Strategy<Value = IpBlock> {
    let except = |of: &'static [&'static str]| vec(one(of), 0..3);
    let wrong = (
        one(&["10.0.0.0", "10.0.0.0/33", "fd00::/129", "", "all", "10.0.0.0/30", "10.0.0.0/-1"]),
        vec(one(&["10.0.0.0/30", "fd00::/126", "0.0.0.0/0", "x", "10.0.1.0/30"]), 1..2),
    );
    let block = prop_oneof![
        10 => (one(&["0.0.0.0/0", "10.0.0.0/8", "10.0.99.99/16"]), except(&["10.0.0.1/32", "10.0.0.2/31", "10.0.1.0/24"])),
        5 => (one(&["10.0.0.0/30", "10.0.0.1/32", "192.168.0.0/16", "172.16.0.1/32"]), Just(Vec::new())),
        5 => (one(&["::/0", "fd00::/16"]), except(&["fd00::1/128", "fd00::/112", "fd00:1::/32"])),
        2 => (one(&["fd00::/126", "fd00::2/128", "2001:db8::/32"]), Just(Vec::new())),
        1 => wrong,
    ];
    block.prop_map(|(cidr, except)| IpBlock { cidr, except })
}

fn peer() -> impl Strategy<Value = Peer> {
    let pods = |pod_selector| Peer { pod_selector: Some(pod_selector), ..Peer::default() };
    let namespaces =
        |namespace_selector| Peer { namespace_selector: Some(namespace_selector), ..Peer::default() };
    prop_oneof![
        8 => selector().prop_map(pods),
        6 => selector().prop_map(namespaces),
        2 => by_name().prop_map(namespaces),
        6 => (selector(), selector()).prop_map(|(pods, namespaces)| Peer {
            pod_selector: Some(pods), namespace_selector: Some(namespaces), ip_block: None,
        }),
        6 => block().prop_map(|block| Peer { ip_block: Some(block), ..Peer::default() }),
        1 => (option::of(selector()), option::of(block())).prop_map(|(pod_selector, ip_block)| Peer {
            pod_selector, namespace_selector: None, ip_block,
        }),
    ]
}

fn policy_port() -> impl Strategy<Value = NetworkPolicyPort> {
    let number = |port: u16| PortOrName::Number(port.into());
    let right = prop_oneof![
        1 => Just((None, None)),
        2 => select(&PORTS[..]).prop_map(move |port| (Some(number(port)), None)),
        2 => (select(&PORTS[..]), 0..3i32).prop_map(move |(port, more)| (Some(number(port)), Some(i32::from(port) + more))),
        3 => one(&["web", "dns"]).prop_map(|name| (Some(PortOrName::Name(name)), None)),
    ];
    let wrong = prop_oneof![
        Just((Some(PortOrName::Number(80)), Some(79))),
        Just((Some(PortOrName::Number(80)), Some(65_536))),
        Just((Some(PortOrName::Number(0)), None)),
        Just((Some(PortOrName::Number(65_536)), None)),
        Just((Some(PortOrName::Name("80".into())), None)),
        Just((Some(PortOrName::Name("a_b".into())), None)),
        Just((Some(PortOrName::Name("web".into())), Some(81))),
        Just((None, Some(81))),
    ];
    let protocol = prop_oneof![
        20 => Just(None), 20 => one(&["TCP"]).prop_map(Some), 20 => one(&["UDP", "SCTP"]).prop_map(Some),
        1 => one(&["tcp", "ICMP", ""]).prop_map(Some),
    ];
    (protocol, prop_oneof![20 => right, 1 => wrong])
        .prop_map(|(protocol, (port, end_port))| NetworkPolicyPort { protocol, port, end_port })
}

/// Mostly a few, often none.
fn few<T: std::fmt::Debug + Clone>(of: impl Strategy<Value = T> + 'static) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![1 => Just(Vec::new()), 2 => vec(of, 1..3)]
}

pub(crate) fn policy() -> impl Strategy<Value = Update> {
    let types = prop_oneof![
        20 => select(&TYPES[..]), 1 => select(&WRONG_TYPES[..]),
    ];
    let ingress = (few(peer()), few(policy_port())).prop_map(|(from, ports)| IngressRule { from, ports });
    let egress = (few(peer()), few(policy_port())).prop_map(|(to, ports)| EgressRule { to, ports });
    (select(&NAMESPACES[..]), select(&POLICIES[..]), selector(), types, few(ingress), few(egress)).prop_map(
        |(namespace, name, pod_selector, types, ingress, egress)| {
            let policy_types = types.iter().map(|name| (*name).to_owned()).collect();
            Update::NetworkPolicy(NetworkPolicy {
                metadata: metadata(namespace, name, Labels::new()),
                spec: NetworkPolicySpec { pod_selector, policy_types, ingress, egress },
            })
        },
    )
}

pub(crate) fn deletion() -> impl Strategy<Value = Update> {
    let name = |kind| {
        move |(namespace, name): (&str, &str)| {
            Update::Deleted(ObjectRef { kind, name: ObjectName::new(namespace, name) })
        }
    };
    prop_oneof![
        6 => (select(&NAMESPACES[..]), select(&PODS[..])).prop_map(name(Kind::Pod)),
        6 => (select(&NAMESPACES[..]), select(&POLICIES[..])).prop_map(name(Kind::NetworkPolicy)),
        1 => (Just(""), select(&NAMESPACES[..])).prop_map(name(Kind::Namespace)),
        1 => Just(("", OWN_NODE)).prop_map(name(Kind::Node)),
    ]
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Update(Box<Update>),
    /// All objects of a kind come again, but for those whose bit is not set.
    Relist(Kind, u16),
    /// A policy, one of all, is deleted and comes again by another name.
    Rename(usize, &'static str),
    /// A list begins; what comes of it is up to the steps that follow.
    ListBegins(Kind),
    /// What changed is taken.
    Look,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let kinds = || select(&[Kind::Pod, Kind::Namespace, Kind::NetworkPolicy, Kind::Node][..]);
    let update = |update| Step::Update(Box::new(update));
    prop_oneof![
        10 => pod().prop_map(update),
        8 => policy().prop_map(update),
        3 => namespace().prop_map(update),
        1 => node().prop_map(update),
        6 => deletion().prop_map(update),
        1 => (kinds(), any::<u16>()).prop_map(|(kind, kept)| Step::Relist(kind, kept | kept << 1)),
        2 => (any::<usize>(), select(&POLICIES[..])).prop_map(|(which, name)| Step::Rename(which, name)),
        1 => kinds().prop_map(Step::ListBegins),
        8 => Just(Step::Look),
    ]
}
