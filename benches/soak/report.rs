//! What is printed: a line now and then, and a table at the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use benches::report::thousands;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use testbed::{Mode, Resources};

use crate::traffic::Traffic;

/// What happened.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    pub(crate) traffic: Traffic,
    pub(crate) changes: u64,
    pub(crate) kills: u32,
    pub(crate) flushes: u32,
    /// After the last kill, warm; and at the end.
    pub(crate) resources: (Resources, Resources),
    /// What went wrong, in words.
    pub(crate) failures: Vec<String>,
}

/// A line of what happened until now.
pub(crate) fn progress(elapsed: Duration, traffic: &Traffic, changes: u64, resources: Resources) {
    let [healthy, others, unanswered, flushed, lost, failed] = counts(traffic);
    let Resources { resident_kb, descriptors } = resources;
    eprintln!(
        "{:4} s: {changes} changes; connections {healthy} to healthy services, {others} to others ({unanswered} without \
         endpoint), {flushed} lost to a flush, {lost} to churn, {failed} failed; {resident_kb} kB, {descriptors} descriptors",
        elapsed.as_secs()
    );
}

fn counts(traffic: &Traffic) -> [String; 6] {
    let Traffic { healthy, others, unanswered, flushed, lost, failed, .. } = traffic;
    [healthy, others, unanswered, flushed, lost, failed]
        .map(|count| thousands(count.load(Ordering::Relaxed) as f64))
}

/// The end of it.
pub(crate) fn print(outcome: &Outcome, mode: Mode) {
    let [healthy, others, unanswered, flushed, lost, failed] = counts(&outcome.traffic);
    let (before, after) = outcome.resources;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([format!("soak, {}", mode.name), format!("{} s", outcome.took.as_secs())]);
    for (what, figure) in [
        ("changes of services and endpoints", thousands(outcome.changes as f64)),
        ("kills and restarts", outcome.kills.to_string()),
        ("flushes by somebody else", outcome.flushes.to_string()),
        ("connections to healthy services", healthy),
        ("connections to services that come and go", others),
        ("... without an endpoint, and without answer", unanswered),
        ("failed while the rules were flushed", flushed),
        ("lost though there were endpoints, to services that change", lost),
        ("failed, to the service that stays as it is", failed),
        ("resident, warm and at the end", format!("{} kB, {} kB", before.resident_kb, after.resident_kb)),
        ("descriptors, warm and at the end", format!("{}, {}", before.descriptors, after.descriptors)),
    ] {
        table.add_row([what, &figure]);
    }
    println!("{table}");
    for loss in outcome.traffic.losses() {
        println!("lost: {loss}");
    }
    for failure in &outcome.failures {
        println!("FAILED: {failure}");
    }
}
