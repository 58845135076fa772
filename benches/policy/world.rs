//! The cluster: 10,000 pods in 100 namespaces, of which 110 are on this node, and 1,000 policies of all sorts, two for
//! each pod.

use std::net::Ipv4Addr;

use anyhow::Result;
use benches::cluster::pod_ip;
use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use policy::{Compiler, Update};
use serde_json::{Value, json};

pub(crate) const NODE: &str = "node";
pub(crate) const POD_PORT: u16 = 8080;

const PODS: u32 = 10_000;
/// One of so many pods is on this node.
const SHARE: u32 = 91;
/// Pods of this node.
pub(crate) const LOCAL_PODS: u32 = PODS.div_ceil(SHARE);
pub(crate) const NAMESPACES: u32 = 100;
const POLICIES: u32 = 1_000;
/// Kinds of pods in each namespace, two policies for each.
pub(crate) const APPS: u32 = 5;
pub(crate) const POLICIES_OF_A_POD: u32 = POLICIES / NAMESPACES / APPS;
const TEAMS: u32 = 10;

/// Every object, as an API server has them.
pub(crate) fn objects() -> impl Iterator<Item = Value> {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
        "spec": { "podCIDRs": ["10.244.0.0/24"] } });
    [node]
        .into_iter()
        .chain((0..NAMESPACES).map(|number| namespace(number, stage(number))))
        .chain((0..PODS).map(|number| pod(number, app(number))))
        .chain((0..POLICIES).map(policy))
}

/// The same, as they come to the compiler.
pub(crate) fn updates() -> Result<Vec<Update>> {
    objects().map(update).collect()
}

/// A compiler that has taken in everything and told it.
pub(crate) fn compiled() -> Result<Compiler> {
    let mut compiler = Compiler::new(NODE);
    for object in objects() {
        compiler.apply(update(object)?);
    }
    compiler.take_delta();
    Ok(compiler)
}

/// What the compiler is told of an object.
pub(crate) fn update(object: Value) -> Result<Update> {
    Ok(match object["kind"].as_str().unwrap_or_default() {
        "Node" => Update::Node(serde_json::from_value(object)?),
        "Namespace" => Update::Namespace(serde_json::from_value(object)?),
        "Pod" => Update::Pod(serde_json::from_value(object)?),
        _ => Update::NetworkPolicy(serde_json::from_value(object)?),
    })
}

/// What the compiler is told of an object that goes.
pub(crate) fn gone(object: &Value) -> Update {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let kind = if object["kind"] == "Pod" { Kind::Pod } else { Kind::NetworkPolicy };
    Update::Deleted(ObjectRef { kind, name: ObjectName::new(text("namespace"), text("name")) })
}

/// The number of a pod of this node. Those from [`LOCAL_PODS`] on do not exist at first.
pub(crate) fn local(index: u32) -> u32 {
    index * SHARE
}

/// The number of a pod elsewhere. Those from [`PODS`] on do not exist at first.
pub(crate) fn remote(index: u32) -> u32 {
    // Spread over namespaces and kinds.
    let number = index * 37 % PODS;
    if number.is_multiple_of(SHARE) { number + 1 } else { number }
}

/// The number of a pod elsewhere that does not exist at first.
pub(crate) fn new_remote(index: u32) -> u32 {
    local(LOCAL_PODS + index) + 1
}

/// Which kind of pod it is.
pub(crate) fn app(pod: u32) -> u32 {
    pod / NAMESPACES % APPS
}

/// Whether a namespace is in production or being tested.
pub(crate) fn stage(namespace: u32) -> &'static str {
    ["production", "test"][namespace as usize / TEAMS as usize % 2]
}

pub(crate) fn namespace(number: u32, stage: &str) -> Value {
    let labels = json!({ "team": format!("team-{}", number % TEAMS), "stage": stage });
    json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": format!("namespace-{number}"), "labels": labels } })
}

pub(crate) fn address(pod: u32) -> Ipv4Addr {
    pod_ip(pod)
}

pub(crate) fn pod(number: u32, app: u32) -> Value {
    let node =
        if number.is_multiple_of(SHARE) { NODE.to_owned() } else { format!("node-{}", number % SHARE) };
    let ip = address(number);
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number}"),
            "namespace": format!("namespace-{}", number % NAMESPACES),
            "labels": { "app": format!("app-{app}"), "pod-template-hash": format!("{:x}", number / 50) },
        },
        "spec": { "nodeName": node, "containers": [{ "ports": [
            { "name": "http", "containerPort": POD_PORT }, { "name": "metrics", "containerPort": 9090 },
        ] }] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    })
}

/// Each kind of pod in each namespace has one policy that says who may come in, and one that also says where it may go;
/// the second lets pods of the same namespace talk.
fn policy(number: u32) -> Value {
    let (namespace, sort) = (number % NAMESPACES, number / NAMESPACES);
    let (app, is_second) = (sort % APPS, sort >= APPS);
    let peer = peer(namespace + sort);
    let mut spec = json!({
        "podSelector": { "matchLabels": { "app": format!("app-{app}") } },
        "policyTypes": ["Ingress"],
        "ingress": [{ "from": [peer], "ports": ports(namespace / APPS + sort) }],
    });
    if is_second {
        let neighbours = json!([{ "podSelector": {} }]);
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        spec["ingress"] = json!([spec["ingress"][0], { "from": neighbours }]);
        spec["egress"] = json!([{ "to": [peer] }, { "to": neighbours },
            { "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53 }] }]);
    }
    named(namespace, &format!("policy-{sort}"), &spec)
}

/// Who is at the other end: by labels in the same namespace, in others, namespaces alone, or blocks.
fn peer(number: u32) -> Value {
    let team = json!({ "matchLabels": { "team": format!("team-{}", number / 5 % TEAMS) } });
    let app = json!({ "matchLabels": { "app": format!("app-{}", number / 7 % APPS) } });
    match number % 5 {
        0 => json!({ "podSelector": app }),
        1 => json!({ "namespaceSelector": team, "podSelector": app }),
        2 => json!({ "namespaceSelector": team }),
        3 => json!({ "namespaceSelector":
            { "matchExpressions": [{ "key": "stage", "operator": "In", "values": ["production"] }] } }),
        _ => json!({ "ipBlock": { "cidr": format!("172.{}.0.0/16", 16 + number % 16),
            "except": [format!("172.{}.1.0/24", 16 + number % 16), format!("172.{}.99.7/32", 16 + number % 16)] } }),
    }
}

fn ports(number: u32) -> Value {
    match number % 4 {
        0 => json!([{ "port": "http" }]),
        1 => json!([{ "port": 80 }, { "port": 443 }]),
        2 => json!([{ "port": 9000, "endPort": 9100 }]),
        _ => json!([{ "port": "metrics" }, { "protocol": "UDP" }]),
    }
}

/// One more policy for a pod and its like, which lets in whom others let in, at this port.
pub(crate) fn more(pod: u32, name: &str, port: u16) -> Value {
    let spec = json!({
        "podSelector": { "matchLabels": { "app": format!("app-{}", app(pod)) } },
        "policyTypes": ["Ingress"],
        "ingress": [{ "from": [peer(pod / SHARE)], "ports": [{ "port": port }] }],
    });
    named(pod % NAMESPACES, name, &spec)
}

fn named(namespace: u32, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": format!("namespace-{namespace}") }, "spec": spec })
}
