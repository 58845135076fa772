//! What is known of an endpoint while traffic goes to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use endpoint_cache::Endpoint;

use super::clock::Moment;
use super::entrance::Entrance;
use super::target::EndpointStatus;

/// For how long others are preferred after a failure; twice as long after each further one in a row.
const FIRST_TIME_ASIDE: Duration = Duration::from_secs(1);
const LONGEST_TIME_ASIDE: Duration = Duration::from_secs(30);

/// An endpoint of a target. Threads that carry its traffic share it.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) endpoint: Endpoint,
    active: AtomicUsize,
    total: AtomicU64,
    failures: AtomicU64,
    /// Failures in a row.
    streak: AtomicU32,
    /// Until when others are preferred, in milliseconds of the forwarder's clock.
    aside_until: AtomicU64,
    gone: AtomicBool,
}

impl EndpointState {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            active: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.endpoint.address, self.endpoint.port)
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// It is no endpoint of the target any longer.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// It took a connection.
    pub(super) fn worked(&self) {
        if self.streak.load(Ordering::Relaxed) > 0 {
            self.streak.store(0, Ordering::Relaxed);
            self.aside_until.store(0, Ordering::Relaxed);
        }
    }

    /// It did not take a connection. Returns for how long it is set aside now.
    pub(super) fn failed(&self, now: Moment) -> Duration {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.streak.fetch_add(1, Ordering::Relaxed);
        let time = FIRST_TIME_ASIDE.saturating_mul(1 << before.min(16)).min(LONGEST_TIME_ASIDE);
        self.aside_until.store(now.after(time).as_millis(), Ordering::Relaxed);
        time
    }

    pub(super) fn is_aside(&self, now: Moment) -> bool {
        now < self.aside_until()
    }

    fn aside_until(&self) -> Moment {
        Moment::from_millis(self.aside_until.load(Ordering::Relaxed))
    }

    pub(super) fn status(&self, now: Moment) -> EndpointStatus {
        let left = self.aside_until().since(now);
        EndpointStatus {
            endpoint: self.endpoint,
            active: self.active(),
            total: self.total.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            set_aside: (!left.is_zero()).then_some(left),
        }
    }
}

/// A connection or session of a target that goes to one of its endpoints. Both know of it for as long as it is kept.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) entrance: Arc<Entrance>,
    pub(super) endpoint: Arc<EndpointState>,
}

impl Lease {
    pub(super) fn new(entrance: Arc<Entrance>, endpoint: Arc<EndpointState>) -> Self {
        entrance.active.fetch_add(1, Ordering::Relaxed);
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        endpoint.total.fetch_add(1, Ordering::Relaxed);
        Self { entrance, endpoint }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.entrance.active.fetch_sub(1, Ordering::Relaxed);
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}
