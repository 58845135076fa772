//! Restarts and crashes: what was denied stays so at every moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::{Conversation, Flow, Outcome, Place, scenarios};

use crate::scene::{OUTSIDE_PORTS, Scene};

scenarios! { Scene:
    without_the_process_policies_stay_in_force,
    a_restart_with_nothing_new_changes_nothing,
    a_restart_finds_what_changed_meanwhile,
    crashes_under_churn_open_nothing_and_cut_nothing,
}

fn deny_web() -> serde_json::Value {
    json!({ "podSelector": { "matchLabels": { "app": "web" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "db" } } }] }] })
}

fn without_the_process_policies_stay_in_force(s: &mut Scene) -> Result<()> {
    s.policy("default", "web", deny_web());
    s.sync()?;
    s.s.proxy()?.kill()?;
    s.refuses("client", "pod-1")?;
    s.holds("nobody is there")
}

fn a_restart_with_nothing_new_changes_nothing(s: &mut Scene) -> Result<()> {
    s.policy("default", "web", deny_web());
    s.sync()?;
    s.s.proxy()?.terminate()?;
    s.restart()?;
    let line = s.s.proxy()?.last_line_with("policies enforced").unwrap_or_default();
    ensure!(line.contains("operations=0"), "{line}");
    s.holds("as before")
}

fn a_restart_finds_what_changed_meanwhile(s: &mut Scene) -> Result<()> {
    s.policy("default", "web", deny_web());
    s.sync()?;
    s.s.proxy()?.kill()?;
    s.set_label("pod-2", "app", "web");
    s.policy("other", "deny", json!({ "podSelector": {} }));
    s.restart()?;
    s.refuses("pod-2", "pod-1")?;
    s.holds("what changed meanwhile")
}

/// An outsider tries what is denied, and a peer what is allowed, without pause, while the process is killed in the midst of
/// changes. Of what is denied not one packet arrives.
fn crashes_under_churn_open_nothing_and_cut_nothing(s: &mut Scene) -> Result<()> {
    s.policy("default", "web", deny_web());
    s.sync()?;
    s.count_arrivals("client", "pod-1")?;
    let flow = s.place(&s.end("client")?).flow((s.end("pod-1")?.ip, OUTSIDE_PORTS[0]).into())?;
    let mut conversation = s.converse("pod-2", "pod-1")?;
    let crash = |s: &mut Scene| crash_under_churn(s, &mut conversation);
    // What comes while rules change may be dropped without a word; sent again, it is refused like all the rest.
    let patiently = |place: &Place<'_>, over, to| place.connect(over, to);
    let denied = while_telling(&flow, || s.while_trying("client", "pod-1", patiently, crash))?;
    ensure!(denied.len() > 10, "it was tried {} times", denied.len());
    ensure!(denied.iter().all(|outcome| *outcome == Outcome::Refused), "{denied:?}");
    let arrived = s.arrivals("pod-1")?;
    ensure!(arrived == 0, "{arrived} packets got through");
    conversation.echo()?;
    s.holds("after ten crashes")
}

/// Ten times; somebody who is allowed goes on talking.
fn crash_under_churn(s: &mut Scene, conversation: &mut Conversation) -> Result<()> {
    for number in 0..10 {
        s.policy("default", "more", json!({ "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "db" } } }], "ports": [{ "port": 8000 + number, "endPort": 9000 }] }] }));
        s.set_label("pod-3", "app", if number % 2 == 0 { "db" } else { "web" });
        s.write_without_waiting()?;
        s.s.proxy()?.kill()?;
        s.restart()?;
        conversation.echo()?;
    }
    Ok(())
}

/// Sends datagrams without pause while something else is done.
fn while_telling<T>(flow: &Flow, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let telling = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                flow.tell()?;
            }
            Ok(())
        });
        let result = meanwhile();
        done.store(true, Ordering::Relaxed);
        let told = telling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told.and(result)
    })
}
