//! What the process tells of itself: metrics and health, over HTTP.
//!
//! Everything writes here and nothing is decided by what stands here.

mod health;
mod metrics;
mod server;

use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::object::Kind;

pub(crate) use health::Health;
pub(crate) use metrics::{Extent, Metrics};
pub(crate) use server::{Endpoints, serve};

/// Shared by all parts of the process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl Telemetry {
    /// Nothing has happened yet. The process is unhealthy once a change has waited for longer than `stale_after`.
    pub(crate) fn new(stale_after: Duration) -> Arc<Self> {
        Arc::new(Self { metrics: Metrics::default(), health: Health::new(stale_after) })
    }

    /// The server sent something about a kind: an object, a bookmark, an answer.
    pub(crate) fn heard(&self, kind: Kind) {
        self.health.heard(kind);
        self.metrics.heard(kind);
    }

    /// A kind is not watched, because of this. `reason` is a word for metrics.
    pub(crate) fn watch_failed(&self, kind: Kind, reason: &'static str, error: &str) {
        self.health.watch_failed(kind, error);
        self.metrics.watch_failed(kind, reason);
    }
}
