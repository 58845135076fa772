//! What all threads together may take.

use std::sync::atomic::{AtomicUsize, Ordering};

/// An amount that is shared: what was taken must be given back.
#[derive(Debug)]
pub(super) struct Quota {
    taken: AtomicUsize,
    most: usize,
}

impl Quota {
    pub(super) fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// Takes so much, or nothing if that is more than is left.
    pub(super) fn take(&self, amount: usize) -> bool {
        let take = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Takes so much even if it is more than is left.
    pub(super) fn take_anyway(&self, amount: usize) {
        self.taken.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }

    /// How much was taken and not given back.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether so much is left. It may be gone by the time it is taken.
    pub(super) fn has(&self, amount: usize) -> bool {
        self.taken.load(Ordering::Relaxed).saturating_add(amount) <= self.most
    }
}

/// Every bound of a forwarder.
#[derive(Debug)]
pub(super) struct Bounds {
    /// File descriptors of traffic: two a connection, one a session, two a pipe.
    pub(super) descriptors: Quota,
    /// TCP connections.
    pub(super) connections: Quota,
    /// UDP sessions of each thread: one that has as many ends another of its own.
    pub(super) sessions_each: usize,
    /// Bytes that were received and wait for the other side to take them.
    pub(super) held: Quota,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let quota = Quota::new(3);
        assert!(quota.take(2) && !quota.take(2) && quota.take(1) && !quota.has(1));
        quota.give_back(2);
        assert!(quota.has(2) && !quota.take(usize::MAX) && quota.take(2));
    }
}
