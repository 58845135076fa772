//! A new pod meets its policies at its first packet, or does not start.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::cluster_bed::{NAMESPACE, UID};
use testbed::cni::{List, PORT, Pod, refused};
use testbed::{Outcome, Protocol, scenarios};

use crate::scene::Scene;

scenarios! { Scene:
    the_first_packet_of_a_pod_meets_its_policies,
    who_is_allowed_is_allowed_at_once,
    a_pod_waits_for_its_own_labels_not_for_those_of_another_of_its_name,
    without_the_daemon_no_pod_starts,
    without_the_daemon_pods_may_start,
    without_the_daemon_pods_go,
}

const POLICED: [&str; 1] = ["--network-policy"];

/// Nobody may reach or leave pods of this label.
fn closed(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "podSelector": { "matchLabels": { "closed": "yes" } }, "policyTypes": ["Ingress", "Egress"] },
    })
}

/// Plugins that do not wait for the daemon for long.
fn hasty(mut list: List) -> List {
    for plugin in &mut list.plugins {
        plugin["gateTimeout"] = json!("300ms");
    }
    list
}

fn the_first_packet_of_a_pod_meets_its_policies(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.bed.server.put(closed("closed"))?;
    s.start(2)?;
    let (here, elsewhere) = (s.bed.pod(1, "here")?, s.bed.pod(2, "elsewhere")?);
    s.await_reach(&here, &elsewhere)?;
    for number in 0..10 {
        let name = format!("closed-{number}");
        let pod = s.bed.pod_with(1, &name, &json!({ "closed": "yes" }))?;
        for family in s.families() {
            for other in [&here, &elsewhere] {
                let out = SocketAddr::new(other.ip(*family)?, PORT);
                let outcome = pod.place().connect_briefly(Protocol::Udp, out)?;
                ensure!(!matches!(outcome, Outcome::Answered { .. }), "{name} to {out}: {outcome}");
                let back = SocketAddr::new(pod.ip(*family)?, PORT);
                let outcome = other.place().connect_briefly(Protocol::Udp, back)?;
                ensure!(
                    !matches!(outcome, Outcome::Answered { .. }),
                    "{} to {name}: {outcome}",
                    other.name()
                );
            }
        }
        s.bed.remove(1, &pod)?;
    }
    Ok(())
}

fn who_is_allowed_is_allowed_at_once(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.start(1)?;
    let server = s.bed.pod(1, "server")?;
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "web-only", "namespace": NAMESPACE },
        "spec": {
            "podSelector": { "matchLabels": { "app": "server" } },
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "role": "web" } } }] }],
        },
    });
    let outsider = s.bed.pod(1, "outsider")?;
    s.bed.server.put(policy)?;
    s.await_silence(&outsider, &server)?;
    for number in 0..10 {
        let pod = s.bed.pod_with(1, &format!("web-{number}"), &json!({ "role": "web" }))?;
        pod.must_reach(&server)?;
        s.bed.remove(1, &pod)?;
    }
    Ok(())
}

fn a_pod_waits_for_its_own_labels_not_for_those_of_another_of_its_name(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.bed.server.put(closed("closed"))?;
    s.start(1)?;
    let other = s.bed.pod(1, "other")?;
    let first = s.bed.pod_with(1, "web-0", &json!({}))?;
    s.await_reach(&other, &first)?;
    let list = s.bed.node(1).list()?;
    let hasty = hasty(list.clone());
    let mut second = Pod::new("second")?;
    second.attachment = second.attachment.pod(NAMESPACE, "web-0").arg(UID, "web-0-2");
    let runtime = &s.bed.node(1).runtime;
    runtime.del(&list, &first.attachment)?;
    let refusal = refused(runtime.add(&hasty, &second.attachment))?;
    ensure!(refusal.code == 11 && refusal.details.contains("no answer"), "{refusal}");
    runtime.del(&hasty, &second.attachment)?;
    s.bed.server.delete("Pod", NAMESPACE, "web-0")?;
    s.bed.announce(1, "web-0", "web-0-2", &json!({ "closed": "yes" }))?;
    second.result = runtime.add(&list, &second.attachment)?;
    second.answer()?;
    for family in s.families() {
        let to = SocketAddr::new(second.ip(*family)?, PORT);
        let outcome = other.place().connect(Protocol::Tcp, to)?;
        ensure!(outcome == Outcome::Refused, "{to}: {outcome}");
    }
    Ok(())
}

fn without_the_daemon_no_pod_starts(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.start(1)?;
    let list = s.bed.node(1).list()?;
    s.bed.node_mut(1).kill()?;
    let hasty = hasty(list);
    let before = testbed::cni::There::on(&s.bed.node(1).namespace)?;
    let pod = Pod::new("late")?;
    let attachment = pod.attachment.clone().pod(NAMESPACE, "late");
    let runtime = &s.bed.node(1).runtime;
    let refusal = refused(runtime.add(&hasty, &attachment))?;
    ensure!(refusal.code == 11 || refusal.code >= 50, "{refusal}");
    runtime.del(&hasty, &attachment)?;
    let after = testbed::cni::There::on(&s.bed.node(1).namespace)?;
    after.without("/networks/").must_be_as(&before.without("/networks/"))?;
    s.start_all()?;
    s.bed.pod(1, "in-time").map(drop)
}

fn without_the_daemon_pods_may_start(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.args.push("--pod-network-gate=open");
    s.start(1)?;
    let list = hasty(s.bed.node(1).list()?);
    s.bed.node_mut(1).kill()?;
    let mut pod = Pod::new("late")?;
    let attachment = pod.attachment.clone().pod(NAMESPACE, "late");
    pod.result = s.bed.node(1).runtime.add(&list, &attachment)?;
    ensure!(!pod.addresses()?.is_empty(), "{}", pod.result);
    Ok(())
}

fn without_the_daemon_pods_go(s: &mut Scene) -> Result<()> {
    s.args.extend(POLICED);
    s.start(1)?;
    s.bed.pod(1, "first").and_then(|pod| s.bed.remove(1, &pod))?;
    let list = s.bed.node(1).list()?.in_version("1.1.0");
    let before = testbed::cni::There::on(&s.bed.node(1).namespace)?.without("nft:").without("/networks/");
    let (one, two) = (s.bed.pod(1, "pod-1")?, s.bed.pod(1, "pod-2")?);
    s.bed.node_mut(1).kill()?;
    let runtime = &s.bed.node(1).runtime;
    runtime.del(&list, &one.attachment)?;
    runtime.gc(&list, &[])?;
    ensure!(!two.addresses()?.is_empty(), "{}", two.result);
    let after = testbed::cni::There::on(&s.bed.node(1).namespace)?.without("nft:").without("/networks/");
    after.must_be_as(&before)
}
