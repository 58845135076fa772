//! What the sync loop counts, for metrics: what came in, what of it is in force, and since when the rest waits.

use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::{Delta, Family, ServicePort, Tally, Traffic, Trigger};
use jiff::Timestamp;

use crate::telemetry::{Origin, Telemetry};

/// Triggers remembered while nothing can be programmed; of further ones the latency is not told.
const TRIGGERS: usize = 1 << 16;

/// Keeps the accounts.
pub(super) struct Accounts {
    telemetry: Arc<Telemetry>,
    /// What the cache had been given when it was last looked at.
    given: Tally,
    /// What it had been given at the last sync that succeeded.
    in_force: Tally,
    /// When what led to changes happened that are not in force yet.
    triggers: Vec<(Family, Timestamp)>,
    /// Nothing of what happened before was for this process to program.
    started: Timestamp,
}

impl Accounts {
    /// Begins to count.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        let (given, in_force) = (Tally::default(), Tally::default());
        Self { telemetry, given, in_force, triggers: Vec::new(), started: Timestamp::now() }
    }

    /// The cache has been given so much by now.
    pub(super) fn take(&mut self, tally: Tally) {
        self.telemetry.metrics.given(&self.given, &tally);
        self.telemetry.metrics.pending(&self.in_force, &tally);
        self.given = tally;
    }

    /// Something is about to be programmed.
    pub(super) fn program(&mut self, delta: &Delta) {
        let room = TRIGGERS.saturating_sub(self.triggers.len());
        let news = delta.triggers.iter().filter_map(|trigger| self.time(trigger)).take(room);
        let news: Vec<_> = news.collect();
        self.triggers.extend(news);
        for change in &delta.changes {
            self.count_without_local_endpoints(change.before.as_deref(), -1);
            self.count_without_local_endpoints(change.after.as_deref(), 1);
        }
    }

    /// When something happened, if that is known and since we started.
    fn time(&self, trigger: &Trigger) -> Option<(Family, Timestamp)> {
        let time: Timestamp = trigger.time.parse().ok()?;
        (time > self.started).then_some((trigger.family, time))
    }

    fn count_without_local_endpoints(&self, service: Option<&ServicePort>, by: i64) {
        let Some(service) = service else { return };
        let external = service.externally_reachable().then(|| service.external_traffic());
        let traffic = [(Origin::Internal, Some(service.internal_traffic())), (Origin::External, external)];
        // Dropped is what policy Local keeps from endpoints elsewhere.
        for (origin, _) in traffic.into_iter().filter(|(_, traffic)| *traffic == Some(Traffic::Drop)) {
            self.telemetry.metrics.without_local_endpoints(service.family, origin, by);
        }
    }

    /// All that was given is in force.
    pub(super) fn close(&mut self) {
        self.in_force = self.given;
        self.telemetry.metrics.pending(&self.in_force, &self.given);
        let now = Timestamp::now();
        for (family, time) in self.triggers.drain(..) {
            // Other machines' clocks may be ahead of ours.
            let latency = Duration::try_from(now.duration_since(time)).unwrap_or_default();
            self.telemetry.metrics.programmed(family, latency);
        }
    }
}
