//! Denying: what a policy closes, and only that.

use anyhow::Result;
use serde_json::json;
use testbed::scenarios;

use crate::scene::Scene;

scenarios! { Scene:
    without_policies_everybody_reaches_everybody,
    ingress_to_all_pods_is_denied,
    egress_of_all_pods_is_denied,
    both_are_denied,
    a_policy_closes_nothing_but_its_own,
    denied_connections_are_dropped_if_asked_for,
    an_audit_denies_nothing_and_tells,
    what_is_denied_is_counted_and_logged,
    families_are_denied_alike,
}

fn without_policies_everybody_reaches_everybody(s: &mut Scene) -> Result<()> {
    s.sync()?;
    s.is_open()
}

fn ingress_to_all_pods_is_denied(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {}, "policyTypes": ["Ingress"] }));
    s.sync()?;
    s.refuses("client", "pod-1")?;
    s.refuses("pod-3", "pod-1")?;
    s.reaches("pod-1", "client")?;
    s.reaches("client", "pod-3")?;
    s.reaches("node", "pod-1")?;
    s.holds("ingress to default denied")
}

fn egress_of_all_pods_is_denied(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {}, "policyTypes": ["Egress"] }));
    s.sync()?;
    s.refuses("pod-1", "client")?;
    s.reaches("client", "pod-1")?;
    s.holds("egress of default denied")
}

fn both_are_denied(s: &mut Scene) -> Result<()> {
    for namespace in ["default", "other"] {
        s.policy(namespace, "deny", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    }
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.reaches("node", "pod-1")?;
    s.holds("everything denied")
}

/// Isolation is of the pods selected, and of the direction named.
fn a_policy_closes_nothing_but_its_own(s: &mut Scene) -> Result<()> {
    let app = |app: &str| json!({ "matchLabels": { "app": app } });
    s.policy("default", "web", json!({ "podSelector": app("web") }));
    s.sync()?;
    s.holds("ingress of web")?;
    s.policy("default", "web", json!({ "podSelector": app("web"), "policyTypes": ["Egress"] }));
    s.sync()?;
    s.holds("egress of web")?;
    s.policy("default", "web", json!({ "podSelector": app("web"), "egress": [{}] }));
    s.sync()?;
    s.holds("ingress of web, since none is named, and open egress")?;
    s.policy("other", "web", json!({ "podSelector": app("nobody"), "policyTypes": ["Ingress", "Egress"] }));
    s.sync()?;
    s.holds("and nobody in other")?;
    s.forget_policies();
    s.sync()?;
    s.is_open()
}

fn denied_connections_are_dropped_if_asked_for(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-denied=drop"]);
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    s.is_silent("client", "pod-1")?;
    s.reaches("pod-1", "client")
}

fn an_audit_denies_nothing_and_tells(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-audit"]);
    s.policy("default", "deny", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    s.sync()?;
    s.reaches("client", "pod-1")?;
    s.is_told("client", "pod-1", "default/deny")?;
    s.is_open()
}

fn what_is_denied_is_counted_and_logged(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-log-denied"]);
    s.policy("default", "deny", json!({ "podSelector": { "matchLabels": { "app": "web" } } }));
    s.sync()?;
    s.refuses("client", "pod-1")?;
    s.is_told("client", "pod-1", "default/deny")
}

/// Pods have both families, and so have policies.
fn families_are_denied_alike(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    for family in testbed::Family::BOTH {
        let to = (s.s.bed.pod(1).ip(family), testbed::POD_PORT).into();
        let place = testbed::Place::of(&s.s.bed.client).from_address(family.client());
        let outcome = place.connect(testbed::Protocol::Tcp, to)?;
        anyhow::ensure!(outcome == testbed::Outcome::Refused, "{}: {outcome}", family.name());
    }
    Ok(())
}
