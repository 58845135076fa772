//! The examples that users know from the documentation of Kubernetes and of others.

use endpoint_cache::Protocol::{Sctp, Tcp, Udp};
use serde_json::json;

use crate::cluster::{ALL, BARE, BLUE_DB, BLUE_WEB, Cluster, DB, OUTSIDE, RED_WEB, WEB};

#[test]
fn deny_all_egress() {
    let cluster = Cluster::with(json!({ "podSelector": {}, "policyTypes": ["Egress"] }));
    assert_eq!(cluster.who_is_reached_by(DB), ["db"]);
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web", "blue/db", "red/web", "node", "outside"]);
    assert_eq!(cluster.who_is_reached_by(BLUE_WEB), ALL);
}

#[test]
fn deny_all_ingress() {
    let cluster = Cluster::with(json!({ "podSelector": {}, "policyTypes": ["Ingress"] }));
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    assert_eq!(cluster.who_is_reached_by(DB), ["db", "blue/web", "blue/db", "red/web", "node", "outside"]);
    assert_eq!(cluster.who_reaches(RED_WEB), ALL);
}

#[test]
fn deny_all_both_ways() {
    let cluster = Cluster::with(json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    for pod in [DB, WEB, BARE] {
        assert_eq!(cluster.who_reaches(pod), cluster.who_is_reached_by(pod));
        assert_eq!(cluster.who_reaches(pod).len(), 1, "only itself");
    }
    assert!(cluster.reaches(BLUE_WEB, RED_WEB));
}

#[test]
fn allow_all_ingress_and_egress() {
    let mut cluster = Cluster::new();
    let deny = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] });
    cluster.policy("default/deny", deny);
    cluster.policy("default/in", json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web", "blue/db", "red/web", "node", "outside"]);
    assert_eq!(cluster.who_is_reached_by(DB), ["db"]);
    cluster.policy("default/out", json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] }));
    assert_eq!(cluster.who_reaches(DB), ALL);
    assert_eq!(cluster.who_is_reached_by(DB), ALL);
    assert!(cluster.reaches_at(OUTSIDE, DB, Sctp, 9) && cluster.reaches_at(DB, OUTSIDE, Udp, 9));
}

#[test]
fn only_pods_with_a_label_are_isolated() {
    let cluster = Cluster::with(json!({ "podSelector": { "matchLabels": { "role": "db" } } }));
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    assert_eq!(cluster.who_reaches(WEB), ALL);
    assert_eq!(cluster.who_reaches(BLUE_DB), ALL, "another namespace");
}

#[test]
fn a_block_except_one_address() {
    let block = json!({ "cidr": "192.168.0.0/16", "except": ["192.168.50.2/32"] });
    let cluster =
        Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": block }] }] }));
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    for (from, reaches) in [
        ("192.168.0.0", true),
        ("192.168.50.1", true),
        ("192.168.50.2", false),
        ("192.168.50.3", true),
        ("192.168.255.255", true),
        ("192.167.255.255", false),
        ("192.169.0.0", false),
    ] {
        assert_eq!(cluster.reaches(from, DB), reaches, "{from}");
    }
}

#[test]
fn namespaces_by_one_label() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "project": "myproject" } } }]);
    let cluster = Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": from }] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web", "blue/db"]);
}

#[test]
fn namespaces_by_two_names() {
    let names = json!({ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["blue", "red"] });
    let to = json!([{ "namespaceSelector": { "matchExpressions": [names] } }]);
    let spec = json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "to": to }] });
    let cluster = Cluster::with(spec);
    assert_eq!(cluster.who_is_reached_by(DB), ["db", "blue/web", "blue/db", "red/web"]);
}

#[test]
fn pods_by_a_label_in_the_same_namespace() {
    let from = json!([{ "podSelector": { "matchLabels": { "role": "frontend" } } }]);
    let selects = json!({ "matchLabels": { "role": "db" } });
    let cluster = Cluster::with(json!({ "podSelector": selects, "ingress": [{ "from": from }] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "web"]);
}

#[test]
fn nobody_from_other_namespaces() {
    let cluster =
        Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "web", "bare"]);
}

#[test]
fn one_role_of_namespaces() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "role": "operations" } } }]);
    let mut cluster = Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": from }] }));
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    let delta = cluster.namespace("red", json!({ "role": "operations" }));
    assert!(!delta.tightens());
    assert_eq!(cluster.who_reaches(DB), ["db", "red/web"]);
    assert!(cluster.namespace("red", json!({})).tightens());
    assert_eq!(cluster.who_reaches(DB), ["db"]);
}

#[test]
fn the_world_at_one_port() {
    let rule = json!({ "from": [], "ports": [{ "port": 80 }] });
    let cluster = Cluster::with(json!({ "podSelector": {}, "ingress": [rule] }));
    assert_eq!(cluster.who_reaches(DB), ALL);
    assert!(!cluster.reaches_at(OUTSIDE, DB, Tcp, 81));
    assert!(!cluster.reaches_at(OUTSIDE, DB, Udp, 80));
}

/// The first example of the documentation.
#[test]
fn the_database() {
    let mut cluster = Cluster::with(json!({
        "podSelector": { "matchLabels": { "role": "db" } },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [
                { "ipBlock": { "cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"] } },
                { "namespaceSelector": { "matchLabels": { "project": "myproject" } } },
                { "podSelector": { "matchLabels": { "role": "frontend" } } },
            ],
            "ports": [{ "protocol": "TCP", "port": 6379 }],
        }],
        "egress": [{
            "to": [{ "ipBlock": { "cidr": "10.0.0.0/24" } }],
            "ports": [{ "protocol": "TCP", "port": 5978 }],
        }],
    }));
    for (from, reaches) in [
        (WEB, true),
        (BARE, false),
        (BLUE_WEB, true),
        (BLUE_DB, true),
        (RED_WEB, false),
        ("172.17.0.255", true),
        ("172.17.1.0", false),
        ("172.17.1.255", false),
        ("172.17.2.0", true),
        ("172.18.0.0", false),
        (OUTSIDE, false),
    ] {
        assert_eq!(cluster.reaches_at(from, DB, Tcp, 6379), reaches, "{from}");
        assert!(!cluster.reaches_at(from, DB, Tcp, 6380), "{from}");
        assert!(!cluster.reaches_at(from, DB, Udp, 6379), "{from}");
    }
    for (to, port, reaches) in [
        (WEB, 5978, true),
        ("10.0.0.255", 5978, true),
        (WEB, 5979, false),
        (BLUE_WEB, 5978, false),
        (OUTSIDE, 5978, false),
    ] {
        assert_eq!(cluster.reaches_at(DB, to, Tcp, port), reaches, "{to}:{port}");
    }
    assert!(cluster.reaches(WEB, BARE), "others are not isolated");
    cluster.pod("default/db", &["10.0.0.1"], json!({}));
    assert_eq!(cluster.who_reaches(DB), ALL, "nor is one that is no database any more");
}

#[test]
fn selectors_in_one_peer_must_both_match() {
    let from = json!([{
        "namespaceSelector": { "matchLabels": { "project": "myproject" } },
        "podSelector": { "matchLabels": { "role": "frontend" } },
    }]);
    let cluster = Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": from }] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web"]);
}

#[test]
fn of_two_peers_either_may_match() {
    let from = json!([
        { "namespaceSelector": { "matchLabels": { "project": "myproject" } } },
        { "podSelector": { "matchLabels": { "role": "frontend" } } },
    ]);
    let cluster = Cluster::with(json!({ "podSelector": {}, "ingress": [{ "from": from }] }));
    assert_eq!(cluster.who_reaches(DB), ["db", "web", "blue/web", "blue/db"]);
}
