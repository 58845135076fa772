//! A pod that is new is closed from the moment that it can send, until its policies are in force.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::{Outcome, Place, scenarios};

use crate::scene::Scene;

scenarios! { Scene:
    an_address_that_no_pod_is_known_to_have_is_closed,
    unknown_pods_may_be_let_alone,
    a_new_pod_is_never_open,
}

fn an_address_that_no_pod_is_known_to_have_is_closed(s: &mut Scene) -> Result<()> {
    let pod = s.delete_pod("pod-1");
    s.sync()?;
    s.is_silent("pod-1", "client")?;
    s.is_silent("client", "pod-1")?;
    s.is_silent("pod-2", "pod-1")?;
    s.reaches("pod-2", "client")?;
    // The kubelet asks it before anybody knows it.
    s.reaches("node", "pod-1")?;
    s.put_pod(pod);
    s.sync()?;
    s.is_open()
}

fn unknown_pods_may_be_let_alone(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-unknown-pods=allow"]);
    s.delete_pod("pod-1");
    s.sync()?;
    s.reaches("pod-1", "client")?;
    s.reaches("client", "pod-1")
}

/// It tries without pause while it becomes known, over and over: what is denied to it never gets through.
fn a_new_pod_is_never_open(s: &mut Scene) -> Result<()> {
    s.policy(
        "default",
        "web",
        json!({ "podSelector": { "matchLabels": { "app": "web" } },
        "policyTypes": ["Ingress", "Egress"], "egress": [{ "to": [{ "podSelector": {} }] }] }),
    );
    let pod = s.delete_pod("pod-1");
    s.sync()?;
    for _ in 0..20 {
        s.put_pod(pod.clone());
        let briefly = |place: &Place<'_>, over, to| place.connect_briefly(over, to);
        let tried = s.while_trying("pod-1", "client", briefly, Scene::sync)?;
        ensure!(!tried.iter().any(|outcome| matches!(outcome, Outcome::Answered { .. })), "it got through");
        ensure!(tried.len() > 3, "it was tried {} times", tried.len());
        s.reaches("pod-1", "pod-2")?;
        s.delete_pod("pod-1");
        s.sync()?;
    }
    Ok(())
}
