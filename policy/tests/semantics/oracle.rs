//! What the API says of a connection, straight from the objects as they are written: no index, no set, nothing of the
//! compiler's.
//!
//! Of pods that share an address, the local one created last is the one that is isolated; for who is at the other end and
//! what ports are called, each of them counts.

use std::net::IpAddr;

use endpoint_cache::Protocol;
use policy::object::{
    IpBlock, LabelSelector, NetworkPolicy, NetworkPolicyPort, Peer, Pod, PortOrName, Requirement,
};
use policy::{Connection, Direction};

use crate::world::World;

/// One rule of either direction.
struct Rule<'a> {
    peers: &'a [Peer],
    ports: &'a [NetworkPolicyPort],
}

pub(crate) fn allows(world: &World, connection: &Connection) -> bool {
    connection.source == connection.destination
        || Direction::BOTH.into_iter().all(|direction| side_allows(world, direction, connection))
}

fn side_allows(world: &World, direction: Direction, connection: &Connection) -> bool {
    let own = match direction {
        Direction::Ingress => connection.destination,
        Direction::Egress => connection.source,
    };
    let local = pods_at(world, own).filter(|pod| pod.spec.node_name == world.own_node);
    let last = |pod: &&Pod| {
        (pod.metadata.creation_timestamp.clone(), pod.metadata.namespace.clone(), pod.metadata.name.clone())
    };
    let Some(subject) = local.max_by_key(last) else {
        // Nobody's address among those of this node's pods is denied; all others are no business of ours.
        return !world.own_ranges().any(|range| contains(range, own));
    };
    let isolating: Vec<&NetworkPolicy> = world
        .policies()
        .filter(|policy| policy.metadata.namespace == subject.metadata.namespace)
        .filter(|policy| selects(&policy.spec.pod_selector, &subject.metadata.labels))
        .filter(|policy| isolates(policy, direction))
        .collect();
    isolating.is_empty()
        || isolating
            .iter()
            .any(|policy| is_sound(policy) && policy_allows(world, policy, direction, connection))
}

/// Pods with a network of their own that have not ended.
fn pods_at(world: &World, address: IpAddr) -> impl Iterator<Item = &Pod> {
    world.pods().filter(move |pod| {
        let ended = pod.status.phase == "Succeeded" || pod.status.phase == "Failed";
        let mut listed = pod.status.pod_ips.iter().map(|ip| &ip.ip).chain([&pod.status.pod_ip]);
        !ended && !pod.spec.host_network && listed.any(|ip| ip.parse() == Ok(address))
    })
}

fn isolates(policy: &NetworkPolicy, direction: Direction) -> bool {
    let types = &policy.spec.policy_types;
    let unknown = types.iter().any(|other| other != "Ingress" && other != "Egress");
    match direction {
        _ if unknown => true,
        Direction::Ingress => types.is_empty() || types.iter().any(|of| of == "Ingress"),
        Direction::Egress if types.is_empty() => !policy.spec.egress.is_empty(),
        Direction::Egress => types.iter().any(|of| of == "Egress"),
    }
}

fn policy_allows(world: &World, policy: &NetworkPolicy, direction: Direction, to: &Connection) -> bool {
    match direction {
        Direction::Ingress => policy.spec.ingress.iter().any(|rule| {
            let rule = Rule { peers: &rule.from, ports: &rule.ports };
            peer_matches(world, policy, rule.peers, to.source, None)
                && (rule.ports.is_empty()
                    || rule.ports.iter().any(|port| {
                        number_matches(port, to)
                            || pods_at(world, to.destination).any(|pod| {
                                pod.metadata.namespace == policy.metadata.namespace
                                    && selects(&policy.spec.pod_selector, &pod.metadata.labels)
                                    && name_matches(port, pod, to)
                            })
                    }))
        }),
        Direction::Egress => policy.spec.egress.iter().any(|rule| {
            let rule = Rule { peers: &rule.to, ports: &rule.ports };
            let numbered = rule.ports.is_empty() || rule.ports.iter().any(|port| number_matches(port, to));
            numbered && peer_matches(world, policy, rule.peers, to.destination, None)
                || pods_at(world, to.destination).any(|pod| {
                    rule.ports.iter().any(|port| name_matches(port, pod, to))
                        && peer_matches(world, policy, rule.peers, to.destination, Some(pod))
                })
        }),
    }
}

/// Whether an address is one of the peers'; taken for one pod of those that have it, if `only` says so.
fn peer_matches(
    world: &World,
    policy: &NetworkPolicy,
    peers: &[Peer],
    address: IpAddr,
    only: Option<&Pod>,
) -> bool {
    let is = |peer: &Peer, pod: &Pod| {
        let namespace = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            Some(selector) => world.namespace(&pod.metadata.namespace).is_some_and(|namespace| {
                let mut labels = namespace.metadata.labels.clone();
                labels.insert("kubernetes.io/metadata.name".into(), namespace.metadata.name.clone());
                selects(selector, &labels)
            }),
        };
        namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.metadata.labels))
    };
    peers.is_empty()
        || peers.iter().any(|peer| match (&peer.ip_block, only) {
            (Some(block), _) => {
                contains(&block.cidr, address) && !block.except.iter().any(|out| contains(out, address))
            }
            (None, Some(pod)) => is(peer, pod),
            (None, None) => pods_at(world, address).any(|pod| is(peer, pod)),
        })
}

fn protocol_matches(port: &NetworkPolicyPort, to: &Connection) -> bool {
    port.protocol.as_deref().unwrap_or("TCP") == written(to.protocol)
}

fn number_matches(port: &NetworkPolicyPort, to: &Connection) -> bool {
    let asked = i64::from(to.port);
    protocol_matches(port, to)
        && match &port.port {
            None => true,
            Some(PortOrName::Number(first)) => {
                *first <= asked && asked <= port.end_port.map_or(*first, i64::from)
            }
            Some(PortOrName::Name(_)) => false,
        }
}

fn name_matches(port: &NetworkPolicyPort, pod: &Pod, to: &Connection) -> bool {
    let Some(PortOrName::Name(name)) = &port.port else { return false };
    let mut ports =
        pod.spec.containers.iter().chain(&pod.spec.init_containers).flat_map(|container| &container.ports);
    protocol_matches(port, to)
        && ports.any(|called| {
            let protocol = if called.protocol.is_empty() { "TCP" } else { &called.protocol };
            called.name == *name
                && called.container_port == i32::from(to.port)
                && protocol == written(to.protocol)
        })
}

fn written(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// What of a selector makes no sense selects everything, so that what it stands in isolates rather too much.
fn selects(selector: &LabelSelector, labels: &policy::Labels) -> bool {
    selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().filter(|asked| makes_sense(asked)).all(|asked| {
            let value = labels.get(&asked.key);
            let listed = value.is_some_and(|value| asked.values.contains(value));
            match asked.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

fn makes_sense(asked: &Requirement) -> bool {
    let key = !asked.key.is_empty() && !asked.key.contains(' ');
    key && match asked.operator.as_str() {
        "In" | "NotIn" => !asked.values.is_empty(),
        "Exists" | "DoesNotExist" => asked.values.is_empty(),
        _ => false,
    }
}

/// Whether the API server would have taken it.
fn is_sound(policy: &NetworkPolicy) -> bool {
    let spec = &policy.spec;
    let selector = |selector: &LabelSelector| selector.match_expressions.iter().all(makes_sense);
    let peer = |peer: &Peer| match (&peer.ip_block, &peer.pod_selector, &peer.namespace_selector) {
        (Some(block), None, None) => is_sound_block(block),
        (Some(_), ..) | (None, None, None) => false,
        (None, pods, namespaces) => [pods, namespaces].into_iter().flatten().all(selector),
    };
    let rules = spec.ingress.iter().map(|rule| Rule { peers: &rule.from, ports: &rule.ports });
    let mut rules = rules.chain(spec.egress.iter().map(|rule| Rule { peers: &rule.to, ports: &rule.ports }));
    selector(&spec.pod_selector)
        && spec.policy_types.len() <= 2
        && spec.policy_types.iter().all(|of| of == "Ingress" || of == "Egress")
        && rules.all(|rule| rule.peers.iter().all(peer) && rule.ports.iter().all(is_sound_port))
}

fn is_sound_block(block: &IpBlock) -> bool {
    let Some((base, prefix, width)) = network(&block.cidr) else { return false };
    block.except.iter().all(|out| {
        network(out).is_some_and(|(inner, longer, same)| {
            same == width && longer > prefix && same_bits(base, inner, prefix, width)
        })
    })
}

fn is_sound_port(port: &NetworkPolicyPort) -> bool {
    let known = matches!(port.protocol.as_deref(), None | Some("TCP" | "UDP" | "SCTP"));
    known
        && match (&port.port, port.end_port) {
            (None, None) => true,
            (Some(PortOrName::Number(first)), last) => {
                (1..=65_535).contains(first)
                    && last.is_none_or(|last| *first <= i64::from(last) && last <= 65_535)
            }
            (Some(PortOrName::Name(name)), None) => {
                name.chars().any(|c| c.is_ascii_lowercase()) && !name.contains('_')
            }
            (_, Some(_)) => false,
        }
}

/// Bits, length of the prefix and of the whole.
fn network(text: &str) -> Option<(u128, u32, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let (bits, width) = bits(address.parse().ok()?);
    let prefix = prefix.parse().ok()?;
    (prefix <= width).then_some((bits, prefix, width))
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u32::from(v4).into(), 32),
        IpAddr::V6(v6) => (v6.into(), 128),
    }
}

fn same_bits(a: u128, b: u128, prefix: u32, width: u32) -> bool {
    (a ^ b).checked_shr(width - prefix).unwrap_or(0) == 0
}

fn contains(range: &str, address: IpAddr) -> bool {
    let (asked, family) = bits(address);
    network(range)
        .is_some_and(|(base, prefix, width)| width == family && same_bits(base, asked, prefix, width))
}
