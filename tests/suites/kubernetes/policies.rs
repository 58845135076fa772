//! NetworkPolicies from the server: followed apart from Services, and told of.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::api_server::Options;
use testbed::{await_that, cluster};

use crate::health::check_event;
use crate::subject::{PATIENCE, Subject};

/// What the proxy watches, and what policies do: the Node is of both.
const WATCHES: usize = 8;

fn pod(name: &str, address: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": "default", "name": name, "labels": { "app": name } },
        "spec": { "nodeName": "node" },
        "status": { "phase": phase, "podIP": address, "podIPs": [{ "ip": address }] },
    })
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// Lets nobody reach what `spec` selects, if that makes sense.
fn policy(name: &str, spec: &Value) -> Value {
    let metadata = json!({ "namespace": "default", "name": name });
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec })
}

fn metric(subject: &Subject, name: &str, value: f64) -> Result<()> {
    await_that(&format!("{name} is {value}"), || Ok(subject.metric(name)? == value))
}

fn known_pods(subject: &Subject, count: f64) -> Result<()> {
    metric(subject, r#"pointsman_policy_pods{of="cluster"}"#, count)
}

fn isolated(subject: &Subject, count: f64) -> Result<()> {
    metric(subject, r#"pointsman_policy_isolated_addresses{direction="ingress"}"#, count)
}

/// A Service and, beside it, policies that are enforced.
fn begin(subject: &mut Subject) -> Result<()> {
    subject.args.push("--network-policy=on".to_owned());
    subject.put("web", 10, &[1]);
    for (name, object) in [
        ("default", namespace("default")),
        ("a", pod("a", "10.180.9.1", "Running")),
        ("b", pod("b", "10.180.9.2", "Pending")),
        ("ended", pod("ended", "10.180.9.3", "Succeeded")),
        ("deny-a", policy("deny-a", &json!({ "podSelector": { "matchLabels": { "app": "a" } } }))),
    ] {
        subject.cluster.put_other(name, object);
    }
    subject.publish()?;
    subject.start()?;
    subject.server.await_watches(WATCHES, PATIENCE)
}

pub(crate) fn policies_and_what_they_are_made_of_are_followed(subject: &mut Subject) -> Result<()> {
    begin(subject)?;
    known_pods(subject, 2.0)?;
    isolated(subject, 1.0)?;
    metric(subject, r#"pointsman_policy_policies{are="known"}"#, 1.0)?;
    let requests = subject.server.requests();
    let of_pods: Vec<_> = requests.iter().filter(|request| request.contains("/api/v1/pods?")).collect();
    ensure!(!of_pods.is_empty(), "nobody asked for pods");
    for request in of_pods {
        let selector = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
        ensure!(request.contains(selector), "{request}");
    }
    subject.cluster.put_other("all", policy("all", &json!({ "podSelector": {} })));
    subject.publish()?;
    isolated(subject, 2.0)?;
    // A pod that ends leaves the selection, which is told as if it were deleted.
    subject.cluster.put_other("b", pod("b", "10.180.9.2", "Failed"));
    subject.publish()?;
    isolated(subject, 1.0)?;
    known_pods(subject, 1.0)?;
    subject.cluster.delete_other("all").delete_other("deny-a");
    subject.publish()?;
    isolated(subject, 0.0)?;
    let (status, healthz) = subject.health()?;
    ensure!(status == 200 && healthz["policies"]["healthy"] == true, "{healthz}");
    subject.check_leads_to(10, 1)
}

pub(crate) fn a_policy_that_makes_no_sense_is_told_of_by_an_event(subject: &mut Subject) -> Result<()> {
    begin(subject)?;
    isolated(subject, 1.0)?;
    let spec =
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/99" } }] }] });
    subject.cluster.put_other("bad", policy("bad", &spec));
    subject.publish()?;
    check_event(
        subject,
        "AllowsNothing",
        "NetworkPolicy",
        "Warning",
        "spec.ingress[0].from[0].ipBlock.cidr",
    )?;
    metric(subject, "pointsman_policy_problems_total", 1.0)?;
    // It denies what it selects all the same.
    isolated(subject, 2.0)
}

pub(crate) fn policies_that_may_not_be_read_are_no_business_of_services(subject: &mut Subject) -> Result<()> {
    subject.use_server(Options { forbidden: vec!["networkpolicies"], ..Options::default() })?;
    subject.put_node(subject.family.node(), &[]);
    subject.args.push("--network-policy=on".to_owned());
    subject.put("web", 10, &[1]);
    subject.cluster.put_other("node", cluster::node(None, &[subject.family.node()], &[]));
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    let line = subject.proxy()?.await_line_with("cannot follow NetworkPolicys")?;
    ensure!(line.contains("networkpolicies") && line.contains("list and watch"), "{line}");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    ensure!(
        subject.metric("pointsman_policy_syncs_total{outcome=\"success\"}")? == 0.0,
        "policies are in force"
    );
    ensure!(subject.health()?.0 == 200, "the process does not its work");
    Ok(())
}
