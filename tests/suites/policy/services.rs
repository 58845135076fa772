//! Policies are about pods' own addresses, whichever way a connection came to them.

use anyhow::Result;
use serde_json::json;
use testbed::{Outcome, scenarios};

use crate::scene::{Scene, only_web};

scenarios! { Scene:
    services_lead_to_whom_policies_allow,
    a_pod_reaches_itself_through_a_service,
    outsiders_come_through_node_ports,
    a_bridge_is_no_way_round,
}

/// In userspace mode, where the process connects, it takes until that gives up: no answer reaches who asks here.
fn is_denied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused | Outcome::Silence)
}

fn services_lead_to_whom_policies_allow(s: &mut Scene) -> Result<()> {
    let (web, slice) = (s.s.web(), s.s.slice("web", &["pod-2"]));
    s.s.cluster.put(web).put_slice(slice);
    s.policy("default", "db", json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }], "ports": [{ "port": "http" }] }] }));
    s.sync()?;
    s.asks_service("pod-1", |outcome| matches!(outcome, Outcome::Answered { .. }))?;
    s.asks_service("pod-3", is_denied)?;
    // On the way out, too.
    s.policy("default", "out", json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "podSelector": { "matchLabels": { "app": "db" } } }], "ports": [{ "port": 9090 }] }] }));
    s.sync()?;
    s.asks_service("pod-1", is_denied)?;
    s.policy("default", "out", json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "podSelector": { "matchLabels": { "app": "db" } } }], "ports": [{ "port": 8080 }] }] }));
    s.sync()?;
    s.asks_service("pod-1", |outcome| matches!(outcome, Outcome::Answered { .. }))
}

fn a_pod_reaches_itself_through_a_service(s: &mut Scene) -> Result<()> {
    let (web, slice) = (s.s.web(), s.s.slice("web", &["pod-1"]));
    s.s.cluster.put(web).put_slice(slice);
    s.policy("default", "deny", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    s.sync()?;
    s.asks_service("pod-1", |outcome| matches!(outcome, Outcome::Answered { .. }))?;
    s.asks_service("pod-2", is_denied)
}

fn outsiders_come_through_node_ports(s: &mut Scene) -> Result<()> {
    let (web, slice) = (s.s.web().node_port(30080).external_local(), s.s.slice("web", &["pod-2"]));
    s.s.cluster.put(web).put_slice(slice);
    let clients = s.family().client_range();
    s.policy(
        "default",
        "db",
        json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": [{ "ipBlock": { "cidr": clients } }] }] }),
    );
    s.sync()?;
    let to = (s.family().node(), 30080).into();
    s.asks("client", to, |outcome| matches!(outcome, Outcome::Answered { .. }))?;
    s.asks("foreign", to, is_denied)
}

/// Pods on one bridge reach each other through it; the kernel has rules look at that, too.
fn a_bridge_is_no_way_round(s: &mut Scene) -> Result<()> {
    s.use_bridge()?;
    s.policy("default", "db", only_web());
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    s.refuses("pod-3", "pod-2")?;
    s.holds("over a bridge")
}
