//! Pods, namespaces and policies change: who may reach whom follows.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::scenarios;

use crate::scene::{Scene, only_web};

scenarios! { Scene:
    a_pod_changes_its_labels,
    a_namespace_changes_its_labels,
    an_address_goes_to_another_pod,
    a_pod_that_has_ended_is_nobody,
    policies_come_and_go,
    what_others_change_is_put_right,
    rules_of_others_stay,
    switched_off_nothing_is_left,
}

fn a_pod_changes_its_labels(s: &mut Scene) -> Result<()> {
    s.policy("default", "db", only_web());
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    s.set_label("pod-1", "app", "batch");
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.holds("a peer no more")?;
    s.set_label("pod-2", "app", "cache");
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    s.holds("a subject no more")?;
    s.set_label("pod-1", "app", "db");
    s.sync()?;
    s.refuses("pod-2", "pod-1")?;
    s.holds("a subject instead")
}

fn a_namespace_changes_its_labels(s: &mut Scene) -> Result<()> {
    s.policy(
        "default",
        "team",
        json!({ "podSelector": {},
        "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "b" } } }] }] }),
    );
    s.sync()?;
    s.reaches("pod-3", "pod-1")?;
    s.namespace("other", &[("team", "c")]);
    s.sync()?;
    s.refuses("pod-3", "pod-1")?;
    s.holds("of another team")?;
    s.namespace("default", &[("team", "b")]);
    s.sync()?;
    s.reaches("pod-2", "pod-1")?;
    s.holds("the own namespace, by its labels")?;
    s.delete_namespace("other");
    s.policy(
        "default",
        "team",
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector":
        { "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }] } }] }] }),
    );
    s.sync()?;
    s.refuses("pod-3", "pod-1")?;
    s.holds("a namespace that nobody knows is selected by nothing")
}

fn an_address_goes_to_another_pod(s: &mut Scene) -> Result<()> {
    s.policy("default", "db", only_web());
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    let mut next = s.delete_pod("pod-1");
    s.sync()?;
    next["metadata"]["name"] = json!("pod-9");
    next["metadata"]["labels"] = json!({ "app": "batch" });
    s.put_pod(next.clone());
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.holds("it has the labels of the new one")?;
    // The next one comes before this one has gone.
    next["metadata"]["name"] = json!("pod-8");
    next["metadata"]["labels"] = json!({ "app": "db" });
    next["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    s.put_pod(next);
    s.sync()?;
    s.refuses("client", "pod-1")?;
    s.holds("of two, the later one is isolated")?;
    s.delete_pod("pod-9");
    s.sync()?;
    s.holds("one is left")
}

fn a_pod_that_has_ended_is_nobody(s: &mut Scene) -> Result<()> {
    s.policy("default", "db", only_web());
    s.sync()?;
    s.reaches("remote-1", "pod-2")?;
    s.object("remote-1")["status"]["phase"] = json!("Succeeded");
    s.sync()?;
    s.refuses("remote-1", "pod-2")?;
    s.holds("its address is nobody's")
}

fn policies_come_and_go(s: &mut Scene) -> Result<()> {
    s.sync()?;
    for (number, app) in ["web", "db", "web"].into_iter().enumerate() {
        let name = format!("policy-{number}");
        let peers = json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
        s.policy("default", &name, json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": peers }], "egress": [{ "to": peers, "ports": [{ "port": 8080 + number }] }] }));
        s.sync()?;
        s.holds(&name)?;
    }
    for number in 0..3 {
        s.delete_policy("default", &format!("policy-{number}"));
        s.sync()?;
        s.holds("one less")?;
    }
    s.is_open()
}

fn what_others_change_is_put_right(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    s.refuses("client", "pod-1")?;
    s.damage()?;
    s.await_refusal("client", "pod-1")?;
    s.holds("as before")
}

fn rules_of_others_stay(s: &mut Scene) -> Result<()> {
    let node = &s.s.bed.node;
    node.output("nft", &["add", "table", "ip", "somebodys"])?;
    node.output(
        "nft",
        &["add", "chain", "ip", "somebodys", "forward", "{ type filter hook forward priority 5; }"],
    )?;
    node.output("iptables-legacy", &["-A", "FORWARD", "-m", "comment", "--comment", "somebodys"])?;
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    s.damage()?;
    s.await_refusal("client", "pod-1")?;
    s.s.proxy()?.terminate()?;
    s.cleanup()?;
    let node = &s.s.bed.node;
    ensure!(node.output("nft", &["list", "ruleset"])?.contains("hook forward priority"));
    ensure!(node.output("iptables-legacy-save", &[])?.contains("somebodys"));
    s.is_open()
}

fn switched_off_nothing_is_left(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    s.refuses("client", "pod-1")?;
    s.s.proxy()?.terminate()?;
    s.s.forget_proxy();
    // The last word counts.
    s.s.args(&["--network-policy=off"]);
    s.s.launch()?;
    s.s.proxy()?.await_line_with("enforced no longer")?;
    s.is_open()
}
