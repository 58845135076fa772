//! How the process stands, and what it did lately.

use std::time::Instant;

use serde::Serialize;

use super::assess::Standing;
use super::gather::Snapshot;
use crate::status::{Reporter, Status};
use crate::telemetry::health::Verdict;
use crate::telemetry::{Probe, Sync};

/// What stands at the top of the page, and below the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview<'a> {
    status: Status,
    /// What `/healthz` answers.
    health: Verdict,
    /// The latest first.
    syncs: Vec<Sync>,
    /// None before anything has been gathered.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
    /// What could not be found out, and why.
    gaps: &'a [String],
}

/// Of everything that has been gathered.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    services: usize,
    broken: usize,
    impaired: usize,
    endpoints: usize,
    used: usize,
    connections: u64,
}

/// How it stands now.
pub(super) fn overview<'a>(reporter: &Reporter, snapshot: Option<&'a Snapshot>) -> Overview<'a> {
    let mut status = reporter.status();
    // The page shows Services; with userspace mode's many targets, this would be megabytes.
    status.targets = Vec::new();
    Overview {
        status,
        health: reporter.telemetry.health.verdict(Probe::Healthz, Instant::now()),
        syncs: reporter.telemetry.syncs.latest_first(),
        totals: snapshot.map(totals),
        gaps: snapshot.map_or(&[], |snapshot| &snapshot.gaps),
    }
}

/// Adds up what there is.
pub(super) fn totals(snapshot: &Snapshot) -> Totals {
    let mut totals = Totals { services: snapshot.services.len(), ..Totals::default() };
    for assessed in &snapshot.assessed {
        totals.broken += usize::from(assessed.standing == Standing::Broken);
        totals.impaired += usize::from(assessed.standing == Standing::Impaired);
        totals.endpoints += assessed.endpoints;
        totals.used += assessed.used;
        totals.connections += assessed.connections;
    }
    totals
}
