//! What is easily got wrong.

use endpoint_cache::Protocol::{Sctp, Tcp, Udp};
use endpoint_cache::object::Kind;
use policy::{Side, Update};
use serde_json::{Value, json};

use crate::cluster::{ALL, BARE, BLUE_DB, BLUE_WEB, Cluster, DB, NODE, OTHER_NODE, OUTSIDE, RED_WEB, WEB};

fn ingress_from(peers: &Value) -> Value {
    json!({ "podSelector": {}, "ingress": [{ "from": peers }] })
}

fn egress_to(rule: &Value) -> Value {
    json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [rule] })
}

/// 1: without types, ingress always, and egress if there are rules for it.
#[test]
fn types_that_are_not_written() {
    let cluster = Cluster::with(json!({ "podSelector": {}, "egress": [{ "to": [{ "podSelector": {} }] }] }));
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    assert_eq!(cluster.who_is_reached_by(DB), ["db"], "the others of its namespace let nobody in");
    assert!(!cluster.verdict(DB, OUTSIDE, Tcp, 80).egress.allows());
    let cluster = Cluster::with(json!({ "podSelector": {}, "egress": [] }));
    assert_eq!(cluster.who_is_reached_by(DB).last(), Some(&"outside"));
    let cluster = Cluster::with(json!({}));
    assert_eq!(cluster.who_reaches(DB), ["db"], "no selector selects all");
    let cluster = Cluster::with(json!({ "policyTypes": ["Egress"], "ingress": [{}] }));
    assert_eq!((cluster.who_reaches(DB).len(), cluster.who_is_reached_by(DB).len()), (6, 1));
}

/// 2: no rules allow nothing, an empty rule everything; no peers are everybody.
#[test]
fn lists_that_are_empty_or_missing() {
    for closed in [json!({}), json!({ "ingress": [] }), json!({ "ingress": null })] {
        assert_eq!(Cluster::with(closed).who_reaches(DB), ["db"]);
    }
    for open in [json!({}), json!({ "from": [] }), json!({ "from": null, "ports": [] })] {
        assert_eq!(Cluster::with(json!({ "ingress": [open] })).who_reaches(DB), ALL);
    }
    let cluster = Cluster::with(json!({ "ingress": [{ "from": [{ "podSelector": {} }] }] }));
    assert!(cluster.reaches_at(WEB, DB, Sctp, 9), "no ports are all ports of all protocols");
}

/// 3: whose pods a selector means.
#[test]
fn selectors_of_pods_and_of_namespaces() {
    let frontend = json!({ "matchLabels": { "role": "frontend" } });
    let who = |peers: Value| Cluster::with(ingress_from(&peers)).who_reaches(DB);
    assert_eq!(who(json!([{ "podSelector": frontend }])), ["db", "web"]);
    assert_eq!(
        who(json!([{ "namespaceSelector": {} }])),
        ["db", "web", "bare", "blue/web", "blue/db", "red/web"],
        "every pod, and nobody who is none"
    );
    assert_eq!(
        who(json!([{ "namespaceSelector": {}, "podSelector": frontend }])),
        ["db", "web", "blue/web", "red/web"]
    );
    assert_eq!(
        who(json!([{ "namespaceSelector": { "matchLabels": { "project": "myproject" } } }])),
        ["db", "blue/web", "blue/db"],
        "not its own namespace"
    );
}

/// 4: what lacks the label has none of the values.
#[test]
fn operators() {
    let who = |requirements: Value| {
        let selector = json!({ "matchExpressions": requirements });
        Cluster::with(ingress_from(&json!([{ "podSelector": selector }]))).who_reaches(DB)
    };
    let role =
        |operator: &str, values: Value| json!({ "key": "role", "operator": operator, "values": values });
    assert_eq!(who(json!([role("In", json!(["frontend", "none"]))])), ["db", "web"]);
    assert_eq!(who(json!([role("NotIn", json!(["frontend"]))])), ["db", "bare"]);
    assert_eq!(who(json!([role("Exists", json!([]))])), ["db", "web"]);
    assert_eq!(who(json!([role("DoesNotExist", json!([]))])), ["db", "bare"]);
    let never = json!([role("In", json!(["frontend"])), role("NotIn", json!(["frontend"]))]);
    assert_eq!(who(never), ["db"]);

    let mut cluster = Cluster::with(ingress_from(&json!([
        { "podSelector": { "matchExpressions": [role("Exists", json!([]))] } }
    ])));
    cluster.pod("default/bare", &[BARE], json!({ "role": "" }));
    assert!(cluster.reaches(BARE, DB), "an empty value is one");
}

/// 5: TCP unless something else is said, and only that.
#[test]
fn ports_and_protocols() {
    let reached = |ports: Value| {
        let cluster = Cluster::with(json!({ "ingress": [{ "ports": ports }] }));
        let all = [Tcp, Udp, Sctp]
            .into_iter()
            .flat_map(|protocol| [79, 80, 81, 82, 83].map(|port| (protocol, port)));
        let open = all.filter(|(protocol, port)| cluster.reaches_at(OUTSIDE, DB, *protocol, *port));
        open.map(|(protocol, port)| format!("{}/{port}", protocol.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(reached(json!([{ "port": 80 }])), ["tcp/80"]);
    assert_eq!(reached(json!([{ "port": 80, "protocol": "UDP" }])), ["udp/80"]);
    assert_eq!(
        reached(json!([{ "protocol": "SCTP" }])),
        ["sctp/79", "sctp/80", "sctp/81", "sctp/82", "sctp/83"]
    );
    assert_eq!(reached(json!([{}])), ["tcp/79", "tcp/80", "tcp/81", "tcp/82", "tcp/83"]);
    assert_eq!(reached(json!([{ "port": 80, "endPort": 82 }])), ["tcp/80", "tcp/81", "tcp/82"]);
    assert_eq!(reached(json!([{ "port": 80, "endPort": 80 }])), ["tcp/80"]);
    assert_eq!(reached(json!([{ "port": 80 }, { "port": 82, "protocol": "UDP" }])), ["tcp/80", "udp/82"]);
    let high = Cluster::with(json!({ "ingress": [{ "ports": [{ "port": 65_000, "endPort": 65_535 }] }] }));
    assert!(high.reaches_at(OUTSIDE, DB, Tcp, 65_535));
}

fn web_at(port: u16, protocol: &str) -> Value {
    json!({ "containers": [{ "ports": [{ "name": "web", "containerPort": port, "protocol": protocol }] }] })
}

/// 5, 6: a name is a number of each pod's own.
#[test]
fn named_ports_on_the_way_in() {
    let mut cluster = Cluster::with(json!({ "ingress": [{ "ports": [{ "port": "web" }] }] }));
    assert!(!cluster.reaches(OUTSIDE, DB), "nobody knows the name");
    cluster.any_pod("default/db", &[DB], json!({ "role": "db" }), web_at(80, ""), json!({}));
    cluster.any_pod("default/web", &[WEB], json!({}), web_at(8080, "TCP"), json!({}));
    cluster.any_pod("default/bare", &[BARE], json!({}), web_at(80, "UDP"), json!({}));
    for (pod, at_80, at_8080) in [(DB, true, false), (WEB, false, true), (BARE, false, false)] {
        assert_eq!(cluster.reaches_at(OUTSIDE, pod, Tcp, 80), at_80, "{pod}");
        assert_eq!(cluster.reaches_at(OUTSIDE, pod, Tcp, 8080), at_8080, "{pod}");
        assert!(!cluster.reaches_at(OUTSIDE, pod, Udp, 80), "{pod}");
    }
    // A pod that is made anew with another number.
    let delta = cluster.any_pod("default/db", &[DB], json!({ "role": "db" }), web_at(81, ""), json!({}));
    assert!(delta.tightens() && delta.policies.is_empty());
    assert!(!cluster.reaches(OUTSIDE, DB) && cluster.reaches_at(OUTSIDE, DB, Tcp, 81));
    // Containers that run first count, and so do two ports of one name.
    let twice = json!({
        "initContainers": [{ "ports": [{ "name": "web", "containerPort": 82 }] }],
        "containers": [{ "ports": [{ "name": "web", "containerPort": 83 }] }, {}],
    });
    cluster.any_pod("default/db", &[DB], json!({}), twice, json!({}));
    assert!([82, 83].iter().all(|port| cluster.reaches_at(OUTSIDE, DB, Tcp, *port)));
}

/// 5, 6: on the way out, they are the other pod's, and nobody else has any.
#[test]
fn named_ports_on_the_way_out() {
    let ports = json!([{ "port": "web" }]);
    let anywhere = json!({ "ports": ports });
    let block = json!({ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }], "ports": ports });
    let pods = json!({ "to": [{ "namespaceSelector": {} }], "ports": ports });
    for rule in [anywhere, block, pods] {
        let mut cluster = Cluster::with(egress_to(&rule));
        cluster.any_pod("blue/web", &[BLUE_WEB], json!({}), web_at(80, ""), json!({}));
        cluster.any_pod("red/web", &[RED_WEB], json!({}), web_at(8080, ""), json!({ "nodeName": "node-2" }));
        cluster.any_pod("default/db", &[DB], json!({}), web_at(443, ""), json!({}));
        assert_eq!(cluster.who_is_reached_by(DB), ["db", "blue/web"], "{rule}");
        assert!(cluster.reaches_at(DB, RED_WEB, Tcp, 8080), "{rule}");
        assert!(!cluster.reaches_at(DB, OUTSIDE, Tcp, 443), "its own name says nothing of others");
    }
    let own = json!({ "to": [{ "podSelector": { "matchLabels": { "role": "frontend" } } }], "ports": ports });
    let mut cluster = Cluster::with(egress_to(&own));
    cluster.any_pod("default/web", &[WEB], json!({ "role": "frontend" }), web_at(80, ""), json!({}));
    cluster.any_pod("default/bare", &[BARE], json!({}), web_at(80, ""), json!({}));
    assert_eq!(cluster.who_is_reached_by(DB), ["db", "web"]);
}

/// 7: an exception is one from its own block only.
#[test]
fn exceptions_are_of_their_own_block() {
    let block = json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.0.1.0/24"] } });
    let who = |peers: Value| Cluster::with(ingress_from(&peers)).who_reaches(DB);
    assert_eq!(who(json!([block])), ["db", "web", "bare", "red/web"], "pods are in blocks, too");
    let pod = json!({ "namespaceSelector": {}, "podSelector": { "matchLabels": { "role": "db" } } });
    assert_eq!(who(json!([block, pod])), ["db", "web", "bare", "blue/db", "red/web"]);
    let inner = json!({ "ipBlock": { "cidr": "10.0.1.1/32" } });
    assert_eq!(who(json!([block, inner])), ["db", "web", "bare", "blue/web", "red/web"]);

    let mut cluster = Cluster::with(ingress_from(&json!([block])));
    cluster.policy("default/more", ingress_from(&json!([inner])));
    assert!(cluster.reaches(BLUE_WEB, DB));
    assert!(cluster.delete(Kind::NetworkPolicy, "default/it").tightens());
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web"]);
}

#[test]
fn blocks_are_of_their_own_family() {
    let cluster = Cluster::with(ingress_from(&json!([{ "ipBlock": { "cidr": "0.0.0.0/0" } }])));
    assert!(cluster.reaches(OUTSIDE, DB) && !cluster.reaches("fd00::2", "fd00::1"));
    let block = json!({ "cidr": "::/0", "except": ["fd00::/124"] });
    let cluster = Cluster::with(ingress_from(&json!([{ "ipBlock": block }])));
    assert!(cluster.reaches("fd00::11", "fd00::1") && !cluster.reaches("fd00::2", "fd00::1"));
    assert!(!cluster.reaches(OUTSIDE, DB));
    let cluster = Cluster::with(ingress_from(&json!([{ "ipBlock": { "cidr": "10.0.1.99/24" } }])));
    assert_eq!(cluster.who_reaches(DB), ["db", "blue/web", "blue/db"], "bits below the prefix do not count");
}

/// 8: both sides must allow it, each for itself.
#[test]
fn sender_and_receiver_are_both_asked() {
    let mut cluster = Cluster::with(egress_to(&json!({ "to": [{ "ipBlock": { "cidr": "10.0.1.0/24" } }] })));
    assert!(cluster.reaches(DB, BLUE_WEB));
    cluster.policy("blue/closed", json!({}));
    let verdict = cluster.verdict(DB, BLUE_WEB, Tcp, 80);
    assert_eq!(verdict.egress, Side::Allowed { policy: name("default", "it"), rule: 0 });
    let Side::Denied(profile) = verdict.ingress else { panic!("{verdict:?}") };
    assert_eq!(profile.to_string(), "ingress of blue/closed");
    assert!(cluster.reaches(BLUE_WEB, DB), "each direction for itself");
    // Policies add up, in whichever order.
    let delta = cluster.policy("blue/open", json!({ "ingress": [{}] }));
    assert!(!delta.tightens());
    assert!(cluster.reaches(DB, BLUE_WEB));
}

fn name(namespace: &str, name: &str) -> endpoint_cache::object::ObjectName {
    endpoint_cache::object::ObjectName::new(namespace, name)
}

/// 9: pods with the node's network are the node.
#[test]
fn pods_with_the_nodes_network() {
    let mut cluster = Cluster::with(ingress_from(&json!([{ "namespaceSelector": {} }])));
    let host = json!({ "hostNetwork": true });
    cluster.any_pod("default/agent", &[OTHER_NODE], json!({}), host.clone(), json!({}));
    assert!(!cluster.reaches(OTHER_NODE, DB), "no selector selects it");
    assert!(cluster.reaches(OUTSIDE, OTHER_NODE), "nor is it isolated");
    cluster.policy("default/node", ingress_from(&json!([{ "ipBlock": { "cidr": "192.168.50.2/32" } }])));
    assert!(cluster.reaches(OTHER_NODE, DB));
    // A pod that is made anew with the node's network.
    let delta = cluster.any_pod("default/db", &[DB], json!({}), host, json!({}));
    assert!(delta.tightens() && cluster.reaches(OUTSIDE, DB));
}

/// 10: what has ended is nobody, and two may have an address for a while.
#[test]
fn addresses_pass_from_one_pod_to_another() {
    let frontend = json!([{ "podSelector": { "matchLabels": { "role": "frontend" } } }]);
    let mut cluster = Cluster::with(ingress_from(&frontend));
    for phase in ["Succeeded", "Failed"] {
        cluster.pod("default/web", &[WEB], json!({ "role": "frontend" }));
        assert!(cluster.reaches(WEB, DB));
        let labels = json!({ "role": "frontend" });
        let delta = cluster.any_pod("default/web", &[WEB], labels, json!({}), json!({ "phase": phase }));
        assert!(delta.tightens());
        assert!(!cluster.reaches(WEB, DB) && cluster.reaches(OUTSIDE, WEB));
    }
    // Both of those that have it are in the set; that one of them goes changes nothing.
    cluster.pod("default/web", &[WEB], json!({ "role": "frontend" }));
    let delta = cluster.pod("default/new", &[WEB], json!({ "role": "frontend" }));
    assert_eq!(delta.sets.len(), 0);
    let delta = cluster.delete(Kind::Pod, "default/web");
    assert_eq!(delta.sets.len(), 0);
    assert!(cluster.reaches(WEB, DB));
    assert!(cluster.delete(Kind::Pod, "default/new").tightens());
    assert!(!cluster.reaches(WEB, DB));
}

/// 10: the one that was created last is the one that is isolated.
#[test]
fn the_last_of_those_that_share_an_address_counts() {
    let mut cluster = Cluster::with(json!({ "podSelector": { "matchLabels": { "role": "db" } } }));
    let mut made = |name: &str, created: &str, role: &str| {
        let pod = json!({
            "metadata": { "name": name, "namespace": "default", "labels": { "role": role }, "creationTimestamp": created },
            "spec": { "nodeName": NODE },
            "status": { "phase": "Running", "podIP": "10.0.0.9" },
        });
        cluster.update(Update::Pod(serde_json::from_value(pod).unwrap()));
        cluster.reaches(OUTSIDE, "10.0.0.9")
    };
    assert!(made("z-old", "2024-05-01T10:00:00Z", "web"));
    assert!(!made("a-new", "2024-05-01T10:00:01Z", "db"));
    assert!(!made("z-old", "2024-05-01T10:00:00Z", "any"));
    assert!(made("later", "2024-05-02T09:00:00Z", "any"));
    cluster.delete(Kind::Pod, "default/later");
    assert!(!cluster.reaches(OUTSIDE, "10.0.0.9"));
}

/// 11: other nodes are not exempt. (That the own one is, the kernel's rules see to.)
#[test]
fn other_nodes_are_judged() {
    let cluster = Cluster::with(json!({ "policyTypes": ["Ingress", "Egress"] }));
    assert!(!cluster.reaches(OTHER_NODE, DB) && !cluster.reaches(DB, OTHER_NODE));
}

/// 12: an address among those of the node's pods is closed until its pod is known.
#[test]
fn pods_that_are_not_known_yet() {
    let mut cluster = Cluster::new();
    let node = |ranges: Value| {
        let node = json!({ "metadata": { "name": NODE }, "spec": { "podCIDRs": ranges } });
        Update::Node(serde_json::from_value(node).unwrap())
    };
    let delta = cluster.update(node(json!(["10.0.0.0/24", "fd00::/120"])));
    assert!(delta.tightens());
    for unknown in ["10.0.0.77", "fd00::77"] {
        let (peer, other) = if unknown.contains(':') { ("fd00::1", "2001:db8::1") } else { (DB, OUTSIDE) };
        assert_eq!(cluster.verdict(other, unknown, Tcp, 80).ingress, Side::Unknown);
        assert_eq!(cluster.verdict(unknown, peer, Tcp, 80).egress, Side::Unknown);
    }
    assert!(cluster.reaches(OUTSIDE, DB) && cluster.reaches(OUTSIDE, BLUE_DB));
    assert!(!cluster.pod("default/new", &["10.0.0.77"], json!({})).tightens());
    assert!(cluster.reaches(OUTSIDE, "10.0.0.77"));
    assert!(cluster.delete(Kind::Pod, "default/new").tightens());
    assert!(!cluster.reaches(OUTSIDE, "10.0.0.77"));
    cluster.delete(Kind::Node, NODE);
    assert!(cluster.reaches(OUTSIDE, "10.0.0.77"));
}

/// 13: a pod reaches itself.
#[test]
fn a_pod_reaches_itself() {
    let cluster = Cluster::with(json!({ "policyTypes": ["Ingress", "Egress"] }));
    assert!(cluster.reaches(DB, DB) && cluster.reaches("fd00::1", "fd00::1"));
    assert!(!cluster.reaches(DB, WEB));
}

/// 14: what may only widen does not have connections judged anew; what may narrow does.
#[test]
fn what_tightens() {
    let mut cluster = Cluster::new();
    let closed = json!({ "podSelector": { "matchLabels": { "role": "db" } } });
    assert!(cluster.policy("default/it", closed.clone()).tightens());
    let mut open = closed.clone();
    open["ingress"] = json!([{}]);
    assert!(!cluster.policy("default/it", open).tightens());
    assert!(cluster.policy("default/it", closed).tightens());
    assert!(!cluster.delete(Kind::NetworkPolicy, "default/it").tightens());
    assert!(
        !cluster.policy("red/nobody", json!({ "podSelector": { "matchLabels": { "a": "b" } } })).tightens()
    );
    assert!(cluster.pod("red/web", &[RED_WEB], json!({ "a": "b" })).tightens());
    assert!(!cluster.pod("red/web", &[RED_WEB], json!({})).tightens());
}

/// 17: a namespace that is not known has no labels, so it is not among those that lack one either.
#[test]
fn namespaces_that_are_not_known() {
    let lacks = json!({ "matchExpressions": [{ "key": "project", "operator": "DoesNotExist" }] });
    let mut cluster = Cluster::with(ingress_from(&json!([{ "namespaceSelector": lacks }])));
    cluster.pod("new/pod", &["10.0.3.1"], json!({}));
    assert_eq!(cluster.who_reaches(DB), ["db", "web", "bare", "red/web"]);
    assert!(!cluster.reaches("10.0.3.1", DB));
    assert!(!cluster.namespace("new", json!({})).tightens());
    assert!(cluster.reaches("10.0.3.1", DB));
    assert!(cluster.delete(Kind::Namespace, "new").tightens());
    assert!(!cluster.reaches("10.0.3.1", DB));
    // Its own pods are isolated all the same, and are found by what asks for no label.
    cluster.policy("new/closed", json!({}));
    assert!(!cluster.reaches(OUTSIDE, "10.0.3.1"));
    cluster.policy("blue/web", egress_to(&json!({ "ports": [{ "port": "web" }] })));
    cluster.any_pod("new/other", &["10.0.3.2"], json!({}), web_at(80, ""), json!({}));
    assert!(cluster.verdict(BLUE_WEB, "10.0.3.2", Tcp, 80).egress.allows());
}

/// A pod that changes its labels touches the sets that it enters and leaves, and nothing else.
#[test]
fn a_label_changes_members_only() {
    let frontend = json!([{ "podSelector": { "matchLabels": { "role": "frontend" } } }]);
    let mut cluster = Cluster::with(
        json!({ "podSelector": { "matchLabels": { "role": "db" } }, "ingress": [{ "from": frontend }] }),
    );
    let delta = cluster.pod("default/bare", &[BARE], json!({ "role": "frontend" }));
    assert_eq!(delta.sets.keys().map(ToString::to_string).collect::<Vec<_>>(), ["default: role=frontend"]);
    assert!(delta.policies.is_empty() && delta.profiles.is_empty() && delta.subjects.is_empty());
    assert!(delta.pods.is_empty() && !delta.tightens());
    assert!(cluster.pod("default/bare", &[BARE], json!({ "role": "other" })).tightens());
}
