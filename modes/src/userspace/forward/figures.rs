//! Counting what is carried.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all targets did, since the start but for the gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// TCP connections accepted.
    pub connections: u64,
    /// TCP connections under way (a gauge).
    pub active_connections: u64,
    /// TCP connections closed at once because a bound was reached.
    pub shed_by_bound: u64,
    /// TCP connections closed at once because there were no file descriptors left.
    pub shed_by_descriptors: u64,
    /// Attempts to connect to an endpoint that failed.
    pub connect_failures: u64,
    /// TCP connections that no endpoint took.
    pub unserved: u64,
    /// UDP sessions begun.
    pub sessions: u64,
    /// UDP sessions under way (a gauge).
    pub active_sessions: u64,
    /// UDP sessions ended early to make room.
    pub sessions_evicted: u64,
    /// Datagrams that were not passed on.
    pub datagrams_dropped: u64,
    /// Bytes from clients to endpoints.
    pub bytes_in: u64,
    /// Bytes from endpoints to clients.
    pub bytes_out: u64,
}

/// What one thread counts. Others read it at any time, so it is exact only once the thread rests.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: Counter,
    pub(super) closed_connections: Counter,
    pub(super) shed_by_bound: Counter,
    pub(super) shed_by_descriptors: Counter,
    pub(super) connect_failures: Counter,
    pub(super) unserved: Counter,
    pub(super) sessions: Counter,
    pub(super) closed_sessions: Counter,
    pub(super) sessions_evicted: Counter,
    pub(super) datagrams_dropped: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
}

impl Counters {
    /// Adds what was counted.
    pub(super) fn add_to(&self, figures: &mut Figures) {
        // What is closed is read first: what closes meanwhile must not be counted as more than there were.
        let (closed_connections, closed_sessions) =
            (self.closed_connections.get(), self.closed_sessions.get());
        let (connections, sessions) = (self.connections.get(), self.sessions.get());
        figures.connections += connections;
        figures.active_connections += connections.saturating_sub(closed_connections);
        figures.shed_by_bound += self.shed_by_bound.get();
        figures.shed_by_descriptors += self.shed_by_descriptors.get();
        figures.connect_failures += self.connect_failures.get();
        figures.unserved += self.unserved.get();
        figures.sessions += sessions;
        figures.active_sessions += sessions.saturating_sub(closed_sessions);
        figures.sessions_evicted += self.sessions_evicted.get();
        figures.datagrams_dropped += self.datagrams_dropped.get();
        figures.bytes_in += self.bytes_in.get();
        figures.bytes_out += self.bytes_out.get();
    }
}

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn raise(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
