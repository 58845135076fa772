//! Our own metrics.

use std::time::Duration;

use endpoint_cache::object::Kind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Extent, Labels, Seconds, now};
use crate::telemetry::Traffic;

/// What is ours to tell, and the registry that prints it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) registry: Registry,
    sync_duration: Family<Labels, Histogram>,
    last_sync: Seconds,
    pub(super) sync_failures: Counter,
    /// Times that others changed our rules and they were put right.
    pub(super) repairs: Counter,
    /// Kernel operations that this took.
    pub(super) repair_operations: Counter,
    /// Service ports that the kernel refused and that are left out.
    pub(super) left_out: Gauge,
    bad_objects: Family<Labels, Counter>,
    lists: Family<Labels, Counter>,
    watch_failures: Family<Labels, Counter>,
    watching: Family<Labels, Gauge>,
    last_heard: Family<Labels, Seconds>,
}

impl Own {
    /// Nothing has happened yet. What is carried is asked for whenever somebody asks us.
    pub(super) fn new(traffic: Traffic) -> Self {
        // From 62 us, a single element, to 2 s.
        let buckets = || Histogram::new(exponential_buckets(0.000_062_5, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("pointsman"),
            sync_duration: Family::new_with_constructor(buckets),
            last_sync: Seconds::default(),
            sync_failures: Counter::default(),
            repairs: Counter::default(),
            repair_operations: Counter::default(),
            left_out: Gauge::default(),
            bad_objects: Family::default(),
            lists: Family::default(),
            watch_failures: Family::default(),
            watching: Family::default(),
            last_heard: Family::default(),
        };
        metrics.register();
        metrics.registry.register_collector(Box::new(traffic));
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let syncs = "Seconds that a sync of the kernel took";
        registry.register("sync_duration_seconds", syncs, self.sync_duration.clone());
        let last = "When the kernel was last in sync, Unix time";
        registry.register("sync_last_timestamp_seconds", last, self.last_sync.clone());
        let failures = "Syncs that the kernel refused";
        registry.register("sync_failures", failures, self.sync_failures.clone());
        let repairs = "Times that others changed our rules and they were put right";
        registry.register("repairs", repairs, self.repairs.clone());
        let operations = "Kernel operations that it took to put right what others changed";
        registry.register("repair_operations", operations, self.repair_operations.clone());
        let left_out = "Service ports that the kernel refuses and that are left out";
        registry.register("service_ports_left_out", left_out, self.left_out.clone());
        let bad = "Objects from the API that could not be decoded";
        registry.register("api_bad_objects", bad, self.bad_objects.clone());
        let lists = "Full lists taken in from the API";
        registry.register("api_lists", lists, self.lists.clone());
        let failures = "Lists and watches that failed";
        registry.register("api_watch_failures", failures, self.watch_failures.clone());
        let watching = "Whether changes of a kind are being followed";
        registry.register("api_watching", watching, self.watching.clone());
        let heard = "When the API server was last heard of about a kind, Unix time";
        registry.register("api_last_heard_timestamp_seconds", heard, self.last_heard.clone());
    }

    /// A sync programmed what it should.
    pub(super) fn synced(&self, extent: Extent, duration: Duration) {
        let label = match extent {
            Extent::Full => "full",
            Extent::Partial => "partial",
        };
        self.sync_duration.get_or_create(&vec![("sync", label)]).observe(duration.as_secs_f64());
    }

    /// The kernel is in sync.
    pub(super) fn in_force(&self) {
        self.last_sync.set(now());
    }

    /// An object could not be decoded.
    pub(super) fn bad_object(&self, kind: Kind) {
        self.bad_objects.get_or_create(&of(kind)).inc();
    }

    /// A full list was taken in.
    pub(super) fn listed(&self, kind: Kind) {
        self.lists.get_or_create(&of(kind)).inc();
    }

    pub(super) fn heard(&self, kind: Kind) {
        self.watching.get_or_create(&of(kind)).set(1);
        self.last_heard.get_or_create(&of(kind)).set(now());
    }

    pub(super) fn watch_failed(&self, kind: Kind, reason: &'static str) {
        self.watching.get_or_create(&of(kind)).set(0);
        self.watch_failures.get_or_create(&[of(kind), vec![("reason", reason)]].concat()).inc();
    }
}

fn of(kind: Kind) -> Labels {
    vec![("kind", kind.as_str())]
}
