//! Who may connect to whom, straight from the API's definition, with no thought of speed.

use std::net::IpAddr;

use serde_json::Value;
use testbed::Protocol;

use crate::world::World;

/// A connection between two addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Whether policies allow it, as far as they are enforced on this node: of its own pods.
pub(crate) fn allows(world: &World, attempt: &Attempt) -> bool {
    let node = world.s.family().node();
    if attempt.from == attempt.to || attempt.from == node || attempt.to == node {
        return true;
    }
    allows_side(world, attempt, "Egress") && allows_side(world, attempt, "Ingress")
}

fn allows_side(world: &World, attempt: &Attempt, direction: &str) -> bool {
    let (own, other) = if direction == "Egress" { (attempt.from, attempt.to) } else { (attempt.to, attempt.from) };
    let Some(pod) = pod_at(world, own).filter(|pod| pod["spec"]["nodeName"] == "node") else { return true };
    let isolating: Vec<&Value> =
        world.policies().filter(|policy| selects(policy, pod) && isolates(policy, direction)).collect();
    let list = if direction == "Egress" { "egress" } else { "ingress" };
    isolating.is_empty()
        || isolating.iter().any(|policy| {
            items(&policy["spec"][list]).any(|rule| rule_matches(world, policy, rule, direction, other, attempt))
        })
}

fn pod_at(world: &World, address: IpAddr) -> Option<&Value> {
    let has = |pod: &&Value| items(&pod["status"]["podIPs"]).any(|ip| ip["ip"] == address.to_string().as_str());
    world.pods().find(|pod| has(pod) && pod["spec"]["hostNetwork"] != true && pod["status"]["phase"] == "Running")
}

fn selects(policy: &Value, pod: &Value) -> bool {
    policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && selector_matches(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
}

fn isolates(policy: &Value, direction: &str) -> bool {
    let types = &policy["spec"]["policyTypes"];
    if items(types).next().is_none() {
        return direction == "Ingress" || items(&policy["spec"]["egress"]).next().is_some();
    }
    items(types).any(|kind| kind == direction)
}

fn rule_matches(world: &World, policy: &Value, rule: &Value, direction: &str, other: IpAddr, to: &Attempt) -> bool {
    let peers = &rule[if direction == "Egress" { "to" } else { "from" }];
    let (mut peers, mut ports) = (items(peers).peekable(), items(&rule["ports"]).peekable());
    let any_peer = peers.peek().is_none() || peers.any(|peer| peer_matches(world, policy, peer, other));
    any_peer && (ports.peek().is_none() || ports.any(|port| port_matches(world, port, to)))
}

fn peer_matches(world: &World, policy: &Value, peer: &Value, address: IpAddr) -> bool {
    if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
        let excepted = items(&peer["ipBlock"]["except"]).filter_map(Value::as_str);
        return within(address, cidr) && !excepted.into_iter().any(|out| within(address, out));
    }
    let Some(pod) = pod_at(world, address) else { return false };
    let home = &pod["metadata"]["namespace"];
    let in_namespace = if peer["namespaceSelector"].is_null() {
        *home == policy["metadata"]["namespace"]
    } else {
        let namespace = world.namespaces().find(|namespace| namespace["metadata"]["name"] == *home);
        namespace.is_some_and(|namespace| {
            let mut labels = namespace["metadata"]["labels"].clone();
            labels["kubernetes.io/metadata.name"] = home.clone();
            selector_matches(&peer["namespaceSelector"], &labels)
        })
    };
    in_namespace && selector_matches(&peer["podSelector"], &pod["metadata"]["labels"])
}

fn port_matches(world: &World, port: &Value, to: &Attempt) -> bool {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    if protocol != to.protocol.name() {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(name) => {
            let containers = pod_at(world, to.to).map(|pod| &pod["spec"]["containers"]);
            let mut named = containers.into_iter().flat_map(items).flat_map(|container| items(&container["ports"]));
            named.any(|named| {
                named["name"] == name.as_str()
                    && named["containerPort"] == to.port
                    && named["protocol"].as_str().unwrap_or("TCP") == protocol
            })
        }
        first => {
            let first = first.as_u64().unwrap_or_default();
            (first..=port["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(to.port))
        }
    }
}

fn selector_matches(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels[key] == *value;
    let expressions = |expression: &Value| {
        let label = &labels[expression["key"].as_str().unwrap_or_default()];
        let listed = items(&expression["values"]).any(|value| value == label);
        match expression["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => !label.is_null(),
            Some("DoesNotExist") => label.is_null(),
            _ => false,
        }
    };
    selector["matchLabels"].as_object().into_iter().flatten().all(equal)
        && items(&selector["matchExpressions"]).all(expressions)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn within(address: IpAddr, cidr: &str) -> bool {
    let Some((base, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    base.is_ipv4() == address.is_ipv4()
        && (bits(base) ^ bits(address)).checked_shr(128 - prefix).unwrap_or_default() == 0
}
