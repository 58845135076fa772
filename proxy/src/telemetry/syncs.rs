//! The last syncs, for people who ask what happened lately.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use modes::{Error, Report};
use serde::{Deserialize, Serialize};

use super::Extent;

/// How many are remembered.
const REMEMBERED: usize = 50;
/// How much of an error is, in characters.
const LONGEST_ERROR: usize = 1000;

/// What a sync did, or why it failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sync {
    /// When it ended.
    pub(crate) at: Timestamp,
    /// Whether everything was compared with the kernel, and not only what changed.
    pub(crate) full: bool,
    /// How long it took.
    pub(crate) milliseconds: f64,
    /// Service ports that changed.
    pub(crate) changes: usize,
    /// Kernel operations.
    pub(crate) operations: usize,
    /// Connection tracking entries removed.
    pub(crate) flows_removed: usize,
    /// How many such there were in a row, if there was nothing to do.
    pub(crate) times: u64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Sync {
    fn now(extent: Extent, duration: Duration) -> Self {
        Self {
            at: Timestamp::now(),
            full: extent == Extent::Full,
            milliseconds: (duration.as_secs_f64() * 1e6).round() / 1e3,
            changes: 0,
            operations: 0,
            flows_removed: 0,
            times: 1,
            error: None,
        }
    }

    fn did_nothing(&self) -> bool {
        self.error.is_none() && self.changes == 0 && self.operations == 0 && self.flows_removed == 0
    }
}

/// The last syncs, bounded.
#[derive(Debug, Default)]
pub(crate) struct Syncs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    latest: VecDeque<Sync>,
    /// The last that succeeded, however many failed since.
    succeeded: Option<Sync>,
}

impl Syncs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode did what it was told.
    pub(crate) fn succeeded(&self, extent: Extent, changes: usize, report: &Report, duration: Duration) {
        let (operations, flows_removed) = (report.operations, report.flows_removed());
        let sync = Sync { changes, operations, flows_removed, ..Sync::now(extent, duration) };
        self.state().succeeded = Some(sync.clone());
        self.push(sync);
    }

    /// The mode could not do what it was told.
    pub(crate) fn failed(&self, extent: Extent, error: &Error, duration: Duration) {
        let error = error.to_string().chars().take(LONGEST_ERROR).collect();
        self.push(Sync { error: Some(error), ..Sync::now(extent, duration) });
    }

    /// The latest first.
    pub(crate) fn latest_first(&self) -> Vec<Sync> {
        self.state().latest.iter().rev().cloned().collect()
    }

    /// The last that succeeded.
    pub(crate) fn succeeded_last(&self) -> Option<Sync> {
        self.state().succeeded.clone()
    }

    /// Checks that find nothing to do must not push out what happened.
    fn push(&self, mut sync: Sync) {
        let syncs = &mut self.state().latest;
        if let Some(last) = syncs.pop_back_if(|last| last.did_nothing() && sync.did_nothing()) {
            sync.times += last.times;
        }
        syncs.push_back(sync);
        if syncs.len() > REMEMBERED {
            syncs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(1500);

    fn report(operations: usize) -> Report {
        Report { operations, ..Report::default() }
    }

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let syncs = Syncs::default();
        for operations in 1..=REMEMBERED + 10 {
            syncs.succeeded(Extent::Partial, 1, &report(operations), TOOK);
        }
        let latest = syncs.latest_first();
        assert_eq!(latest.len(), REMEMBERED);
        assert_eq!((latest[0].operations, latest[REMEMBERED - 1].operations), (60, 11));
        assert_eq!((latest[0].milliseconds, latest[0].full), (1.5, false));
    }

    #[test]
    fn checks_that_find_nothing_push_out_nothing() {
        let syncs = Syncs::default();
        syncs.succeeded(Extent::Full, 3, &report(9), TOOK);
        for _ in 0..100 {
            syncs.succeeded(Extent::Full, 0, &report(0), TOOK);
        }
        syncs.failed(Extent::Full, &Error::NotSynced, TOOK);
        syncs.failed(Extent::Full, &Error::NotSynced, TOOK);
        let told: Vec<_> = syncs
            .latest_first()
            .iter()
            .map(|sync| (sync.operations, sync.times, sync.error.is_some()))
            .collect();
        assert_eq!(told, [(0, 1, true), (0, 1, true), (0, 100, false), (9, 1, false)]);
        assert_eq!(syncs.succeeded_last().map(|sync| sync.error), Some(None));
    }
}
