//! Who may be at the other end.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::scenarios;

use crate::allowing::each;
use crate::scene::Scene;

scenarios! { Scene:
    pods_by_their_labels,
    namespaces_by_their_labels,
    blocks_of_addresses,
    egress_to_all_kinds_of_peers,
    pods_with_the_nodes_network_are_seen_by_address,
}

fn from(peers: &Value) -> Value {
    json!({ "podSelector": {}, "ingress": [{ "from": peers }] })
}

fn by(key: &str, operator: &str, values: &Value) -> Value {
    json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
}

fn pods_by_their_labels(s: &mut Scene) -> Result<()> {
    let pods = |selector: Value| from(&json!([{ "podSelector": selector }]));
    s.object("remote-1")["metadata"]["labels"]["old"] = json!("");
    each(
        s,
        &[
            ("of the same namespace", pods(json!({}))),
            ("with a label", pods(json!({ "matchLabels": { "app": "db" } }))),
            ("with two labels", pods(json!({ "matchLabels": { "app": "web", "number": "1" } }))),
            ("in", pods(by("app", "In", &json!(["db", "cache"])))),
            ("not in, or without", pods(by("old", "NotIn", &json!([""])))),
            ("exists", pods(by("old", "Exists", &json!([])))),
            ("does not exist", pods(by("old", "DoesNotExist", &json!([])))),
            ("nobody", pods(json!({ "matchLabels": { "app": "nobody" } }))),
        ],
    )
}

fn namespaces_by_their_labels(s: &mut Scene) -> Result<()> {
    let namespaces = |selector: Value| from(&json!([{ "namespaceSelector": selector }]));
    each(
        s,
        &[
            ("every namespace", namespaces(json!({}))),
            ("one label", namespaces(json!({ "matchLabels": { "team": "b" } }))),
            ("by name", namespaces(json!({ "matchLabels": { "kubernetes.io/metadata.name": "other" } }))),
            (
                "in two names",
                namespaces(by("kubernetes.io/metadata.name", "In", &json!(["other", "elsewhere"]))),
            ),
            ("not in", namespaces(by("team", "NotIn", &json!(["b"])))),
            ("none", namespaces(json!({ "matchLabels": { "team": "c" } }))),
            (
                "pods of all",
                from(
                    &json!([{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "db" } } }]),
                ),
            ),
        ],
    )
}

fn blocks_of_addresses(s: &mut Scene) -> Result<()> {
    let block = |cidr: &str, except: Value| from(&json!([{ "ipBlock": { "cidr": cidr, "except": except } }]));
    let (outside, clients) = (s.around_clients(), s.family().client_range());
    let (client, foreign) = (s.single(s.family().client()), s.single(s.family().foreign_client()));
    let (pod, everything) = (s.single(s.s.pod(2).ip), s.everything());
    let cluster = s.family().cluster_cidr();
    each(
        s,
        &[
            ("clients", block(&outside, json!([]))),
            ("all clients but one", block(&outside, json!([foreign]))),
            ("all clients but some", block(&outside, json!([clients, foreign]))),
            ("one client", block(&client, json!([]))),
            ("everybody", block(everything, json!([]))),
            ("everybody but pods", block(everything, json!([cluster]))),
            ("pods, by address", block(cluster, json!([pod]))),
            (
                "what one leaves out another lets in",
                from(&json!([
                    { "ipBlock": { "cidr": everything, "except": [outside] } },
                    { "ipBlock": { "cidr": client } },
                    { "podSelector": { "matchLabels": { "app": "db" } } },
                ])),
            ),
            ("the other family", block(if s.is_v4() { "::/0" } else { "0.0.0.0/0" }, json!([]))),
        ],
    )
}

fn egress_to_all_kinds_of_peers(s: &mut Scene) -> Result<()> {
    let to = |peers: Value, ports: Value| json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "to": peers, "ports": ports }] });
    let clients = s.family().client_range();
    each(
        s,
        &[
            ("pods", to(json!([{ "podSelector": { "matchLabels": { "app": "db" } } }]), json!([]))),
            (
                "namespaces",
                to(json!([{ "namespaceSelector": { "matchLabels": { "team": "b" } } }]), json!([])),
            ),
            ("a block", to(json!([{ "ipBlock": { "cidr": clients } }]), json!([{ "port": 8080 }]))),
            ("a named port", to(json!([{ "podSelector": {} }]), json!([{ "port": "admin" }]))),
            ("a named port of anybody", to(json!([]), json!([{ "port": "http" }]))),
            (
                "a named port in a block",
                to(json!([{ "ipBlock": { "cidr": s.everything() } }]), json!([{ "port": "http" }])),
            ),
        ],
    )
}

/// Such a pod is no subject and nobody's peer, though its labels fit; a block may hold it.
fn pods_with_the_nodes_network_are_seen_by_address(s: &mut Scene) -> Result<()> {
    s.object("remote-1")["spec"]["hostNetwork"] = json!(true);
    let remote = s.single(s.end("remote-1")?.ip);
    s.policy("default", "policy", from(&json!([{ "podSelector": {} }])));
    s.sync()?;
    s.refuses("remote-1", "pod-1")?;
    each(s, &[("by address", from(&json!([{ "ipBlock": { "cidr": remote } }])))])?;
    s.reaches("remote-1", "pod-1")
}
