//! Policies that the API server would not have taken: each isolates what it selects, allows nothing, says which field is
//! wrong, and harms nobody else.

use endpoint_cache::object::Kind;
use policy::Delta;
use serde_json::{Value, json};

use crate::cluster::{ALL, BLUE_DB, BLUE_WEB, Cluster, DB, RED_WEB};

const AFTERMATH: &str = ": the policy allows nothing until this is mended";

fn told(delta: &Delta) -> Vec<&str> {
    delta.problems.iter().map(|problem| problem.field.as_str()).collect()
}

/// A policy of namespace `default` is refused for these fields and reasons, in this order.
#[track_caller]
fn assert_refused(spec: &Value, expected: &[(&str, &str)]) {
    let mut cluster = Cluster::new();
    let sound = json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] });
    cluster.policy("blue/sound", sound);
    let delta = cluster.policy("default/it", spec.clone());
    for (problem, (field, reason)) in delta.problems.iter().zip(expected) {
        assert_eq!(problem.object.to_string(), "NetworkPolicy default/it");
        assert_eq!(problem.field, *field);
        assert_eq!(problem.reason, format!("{reason}{AFTERMATH}"));
    }
    assert_eq!(delta.problems.len(), expected.len(), "{:?}", delta.problems);
    assert_eq!(cluster.who_reaches(DB), ["db"]);
    // Nobody else is concerned.
    assert_eq!(cluster.who_reaches(RED_WEB).last(), Some(&"outside"));
    assert_eq!(cluster.who_reaches(BLUE_DB), ["blue/web", "blue/db"]);
    assert_eq!(cluster.who_is_reached_by(BLUE_WEB).last(), Some(&"outside"));
    // It is told once.
    assert_eq!(cluster.policy("default/it", spec.clone()).problems, []);
    assert_eq!(cluster.compiler.problems().count(), expected.len());
}

/// One rule is wrong, and another would allow everything.
#[track_caller]
fn assert_rule_refused(rule: &Value, field: &str, reason: &str) {
    let spec = json!({ "podSelector": {}, "ingress": [{}, rule] });
    assert_refused(&spec, &[(&format!("spec.ingress[1].{field}"), reason)]);
    let mut rule = rule.clone();
    let rule = rule.as_object_mut().unwrap();
    rule.remove("from").map(|peers| rule.insert("to".to_owned(), peers));
    let spec =
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [rule] });
    let field = field.replacen("from", "to", 1);
    assert_refused(&spec, &[(&format!("spec.egress[0].{field}"), reason)]);
}

#[track_caller]
fn assert_block_refused(block: &Value, field: &str, reason: &str) {
    assert_rule_refused(
        &json!({ "from": [{ "ipBlock": block }] }),
        &format!("from[0].ipBlock.{field}"),
        reason,
    );
}

#[track_caller]
fn assert_port_refused(port: &Value, field: &str, reason: &str) {
    assert_rule_refused(&json!({ "ports": [{ "port": 80 }, port] }), &format!("ports[1].{field}"), reason);
}

#[test]
fn blocks() {
    for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/", "all"] {
        let reason = format!("{text:?} is no range of addresses");
        assert_block_refused(&json!({ "cidr": text }), "cidr", &reason);
        assert_block_refused(&json!({ "cidr": "10.0.0.0/8", "except": [text] }), "except[0]", &reason);
    }
    assert_block_refused(&json!({}), "cidr", "\"\" is no range of addresses");
    for outside in ["11.0.0.0/16", "0.0.0.0/0", "10.0.0.0/8", "fd00::/16"] {
        let block = json!({ "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", outside] });
        assert_block_refused(&block, "except[1]", &format!("{outside} is not strictly within 10.0.0.0/8"));
    }
    let nothing = json!({ "cidr": "0.0.0.0/0", "except": ["0.0.0.0/0"] });
    assert_block_refused(&nothing, "except[0]", "0.0.0.0/0 is not strictly within 0.0.0.0/0");
}

#[test]
fn ports() {
    let between = |number: i64| format!("{number} is not between 1 and 65535");
    for number in [0, -1, 65_536] {
        assert_port_refused(&json!({ "port": number }), "port", &between(number));
    }
    for last in [0, -1, 65_536] {
        assert_port_refused(&json!({ "port": 80, "endPort": last }), "endPort", &between(last));
    }
    assert_port_refused(&json!({ "port": 80, "endPort": 79 }), "endPort", "79 is below port 80");
    let no_begin = "ends a range that port does not begin by a number";
    assert_port_refused(&json!({ "endPort": 90 }), "endPort", no_begin);
    assert_port_refused(&json!({ "port": "web", "endPort": 90 }), "endPort", no_begin);
    for name in ["", "80", "Web", "a_b", "-a", "a-", "a--b", "sixteen-letters-"] {
        let rule = "up to 15 lower-case letters, digits and single dashes, with a letter among them";
        assert_port_refused(
            &json!({ "port": name }),
            "port",
            &format!("{name:?} is no name of a port: {rule}"),
        );
    }
    for protocol in ["tcp", "ICMP", ""] {
        let reason = format!("{protocol:?} is none of TCP, UDP and SCTP");
        assert_port_refused(&json!({ "port": 80, "protocol": protocol }), "protocol", &reason);
    }
}

#[test]
fn peers() {
    let nobody = "names nobody: one of podSelector, namespaceSelector and ipBlock is needed";
    assert_rule_refused(&json!({ "from": [{ "podSelector": {} }, {}] }), "from[1]", nobody);
    let both = "has an ipBlock, beside which there may be no selector";
    for selector in ["podSelector", "namespaceSelector"] {
        let peer = json!({ "ipBlock": { "cidr": "0.0.0.0/0" }, selector: {} });
        assert_rule_refused(&json!({ "from": [peer] }), "from[0]", both);
    }
}

/// A requirement that makes no sense does not make a selector select less.
#[test]
fn selectors() {
    let no_key = |key: &str| {
        let rule = "[PREFIX/]NAME, the name up to 63 letters, digits, '-', '_' and '.'";
        format!("{key:?} is no key of a label: {rule}")
    };
    for (requirement, field, reason) in [
        (json!({ "key": "a", "operator": "In" }), "values", "must name at least one".to_owned()),
        (
            json!({ "key": "a", "operator": "NotIn", "values": [] }),
            "values",
            "must name at least one".to_owned(),
        ),
        (
            json!({ "key": "a", "operator": "Exists", "values": ["b"] }),
            "values",
            "must be empty for operator Exists".to_owned(),
        ),
        (
            json!({ "key": "a", "operator": "DoesNotExist", "values": ["b"] }),
            "values",
            "must be empty for operator DoesNotExist".to_owned(),
        ),
        (
            json!({ "key": "a", "operator": "Gt", "values": ["1"] }),
            "operator",
            "\"Gt\" is none of In, NotIn, Exists and DoesNotExist".to_owned(),
        ),
        (json!({ "key": "", "operator": "DoesNotExist" }), "key", no_key("")),
        (json!({ "key": "no key", "operator": "DoesNotExist" }), "key", no_key("no key")),
        (json!({ "key": "UP/a", "operator": "DoesNotExist" }), "key", no_key("UP/a")),
    ] {
        let sound = json!({ "key": "role", "operator": "Exists" });
        let selector = json!({ "matchExpressions": [sound, requirement] });
        let field = format!("matchExpressions[1].{field}");
        let spec = json!({ "podSelector": selector, "ingress": [{}] });
        assert_refused(&spec, &[(&format!("spec.podSelector.{field}"), &reason)]);
        for which in ["podSelector", "namespaceSelector"] {
            let rule = json!({ "from": [{ which: selector }] });
            assert_rule_refused(&rule, &format!("from[0].{which}.{field}"), &reason);
        }
    }
    let spec = json!({ "podSelector": { "matchLabels": { "a/b/c": "" } }, "ingress": [{}] });
    assert_refused(&spec, &[("spec.podSelector.matchLabels", &no_key("a/b/c"))]);
}

#[test]
fn policy_types() {
    let unknown = |name: &str| format!("{name:?} is neither Ingress nor Egress");
    // Whichever was meant is isolated.
    for name in ["Egres", "ingress", ""] {
        let spec = json!({ "podSelector": {}, "policyTypes": [name], "ingress": [{}], "egress": [{}] });
        assert_refused(&spec, &[("spec.policyTypes[0]", &unknown(name))]);
        let mut cluster = Cluster::new();
        cluster.policy("default/it", spec);
        assert_eq!(cluster.who_is_reached_by(DB), ["db"]);
    }
    let thrice =
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress", "Ingress"], "ingress": [{}] });
    assert_refused(&thrice, &[("spec.policyTypes", "has more than two items")]);
}

/// What is wrong with rules of a direction that the policy does not isolate counts, too, as with the API server.
#[test]
fn rules_without_effect() {
    let egress = json!([{ "ports": [{ "port": 0 }] }]);
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}], "egress": egress });
    assert_refused(&spec, &[("spec.egress[0].ports[0].port", "0 is not between 1 and 65535")]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let rule = json!({ "from": [{}], "ports": [{ "port": 0 }] });
    let spec = json!({ "podSelector": {}, "ingress": [rule] });
    let nobody = "names nobody: one of podSelector, namespaceSelector and ipBlock is needed";
    let expected = [
        ("spec.ingress[0].from[0]", nobody),
        ("spec.ingress[0].ports[0].port", "0 is not between 1 and 65535"),
    ];
    assert_refused(&spec, &expected);
}

#[test]
fn what_is_mended_and_broken_again_is_told_again() {
    let spec = |port: u16| json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": port }, { "port": 80 }] }] });
    let mut cluster = Cluster::new();
    let field = ["spec.ingress[0].ports[0].port"];
    assert_eq!(told(&cluster.policy("default/it", spec(0))), field);
    assert_eq!(told(&cluster.policy("default/it", spec(0))), [""; 0]);
    let mended = cluster.policy("default/it", spec(81));
    assert_eq!(told(&mended), [""; 0]);
    assert_eq!(cluster.who_reaches(DB), ALL);
    assert!(!mended.tightens());
    assert_eq!(cluster.compiler.problems().count(), 0);
    let broken = cluster.policy("default/it", spec(0));
    assert_eq!(told(&broken), field);
    assert!(broken.tightens());
    // Something else that is wrong is news, and so is a policy that was away.
    let other = json!({ "podSelector": {}, "policyTypes": ["all"] });
    assert_eq!(told(&cluster.policy("default/it", other.clone())), ["spec.policyTypes[0]"]);
    cluster.delete(Kind::NetworkPolicy, "default/it");
    assert_eq!(cluster.who_reaches(DB), ALL);
    assert_eq!(cluster.compiler.problems().count(), 0);
    assert_eq!(told(&cluster.policy("default/it", other)), ["spec.policyTypes[0]"]);
}
