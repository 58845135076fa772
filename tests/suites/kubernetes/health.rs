//! What `/healthz` and `/livez` say of the Node, and what is told by events.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::api_server::Fault;
use testbed::{await_that, cluster};

use crate::subject::{PATIENCE, Subject};

/// Waits until load balancers are told so; the process itself is well all the time.
fn await_eligible(subject: &Subject, eligible: bool) -> Result<()> {
    let status = if eligible { 200 } else { 503 };
    await_that(&format!("/healthz answers {status}"), || Ok(subject.health()?.0 == status))?;
    let (_, healthz) = subject.health()?;
    ensure!(healthz["nodeEligible"] == eligible && healthz["healthy"] == true, "{healthz}");
    let family = &healthz["status"][subject.family.name()];
    ensure!(family["healthy"] == true && family["lastUpdated"].is_string(), "{healthz}");
    ensure!((healthz["lastUpdated"] == healthz["currentTime"]) == eligible, "{healthz}");
    let (status, livez) = subject.health_page("/livez")?;
    ensure!(status == 200 && livez.get("nodeEligible").is_none(), "{livez}");
    subject.check_leads_to(10, 1)
}

/// The Node with a field of its own.
fn node_with(subject: &Subject, path: &str, value: Value) -> Value {
    let mut node = cluster::node(None, &[subject.family.node()], &[]);
    if let Some((parent, field)) = path.rsplit_once('/')
        && let Some(parent) = node.pointer_mut(parent)
    {
        parent[field] = value;
    }
    node
}

pub(crate) fn a_node_that_is_to_go_is_told_to_load_balancers_alone(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    await_eligible(subject, true)?;
    let full_syncs = || subject.metric(r#"pointsman_sync_duration_seconds_count{sync="full"}"#);
    let before = full_syncs()?;
    let taints = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }]);
    subject.server.put(node_with(subject, "/spec/taints", taints))?;
    await_eligible(subject, false)?;
    subject.server.put(node_with(subject, "/spec/taints", json!([])))?;
    await_eligible(subject, true)?;
    subject.server.put(node_with(subject, "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z")))?;
    await_eligible(subject, false)?;
    ensure!(full_syncs()? == before, "rules do not depend on whether the node is to go");
    subject.server.delete("Node", "", "node")?;
    await_that("the Node is gone", || Ok(full_syncs()? > before))?;
    await_eligible(subject, false)?;
    // Whoever cannot ask the server knows no better than before.
    subject.server.set_fault(Some(Fault::Down));
    await_eligible(subject, false)?;
    subject.publish()?;
    subject.server.set_fault(None);
    await_eligible(subject, true)
}

/// Another program has the port of `/healthz`.
fn take_health_port(subject: &Subject) -> Result<TcpListener> {
    Ok(subject.bed.node.run(|| TcpListener::bind(("0.0.0.0", 10256)))??)
}

pub(crate) fn what_is_wrong_is_told_by_events(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    let taken = take_health_port(subject)?;
    subject.start()?;
    for (reason, kind, severity, note) in [
        ("Starting", "Node", "Normal", "starting"),
        ("FailedToStartProxierHealthcheck", "Node", "Warning", "--healthz-bind-address"),
    ] {
        check_event(subject, reason, kind, severity, note)?;
    }
    drop(taken);
    await_that("/healthz is answered", || Ok(subject.health().is_ok_and(|(status, _)| status == 200)))?;
    subject.check_leads_to(10, 1)?;
    // At the start it is not told: every node would.
    subject.cluster.service("web").external_ips.push("nowhere".to_owned());
    subject.publish()?;
    check_event(subject, "PartlyUnusable", "Service", "Warning", "spec.externalIPs[0]")?;
    subject.proxy()?.kill()?;
    let _taken = take_health_port(subject)?;
    subject.args.push("--bind-address-hard-fail".to_owned());
    subject.launch()?;
    subject.proxy()?.await_line_with("--bind-address-hard-fail is set")?;
    Ok(())
}

pub(crate) fn check_event(
    subject: &Subject,
    reason: &str,
    kind: &str,
    severity: &str,
    note: &str,
) -> Result<()> {
    let event = subject.server.await_event(reason, PATIENCE)?;
    ensure!(event["regarding"]["kind"] == kind && event["type"] == severity, "{event}");
    ensure!(event["note"].as_str().is_some_and(|text| text.contains(note)), "{event}");
    Ok(())
}
