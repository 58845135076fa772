//! How long to wait after failures in a row.

use std::time::Duration;

/// Doubles the wait with every failure, up to a bound.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    /// Up to this share of a wait is taken off it at random.
    jitter: f64,
    failures: u32,
}

impl Backoff {
    /// For what nobody else waits for: always the same waits.
    pub(crate) fn steady(first: Duration, longest: Duration) -> Self {
        Self { first, longest, jitter: 0.0, failures: 0 }
    }

    /// For a server that many nodes wait for, who must not all come back at the same moment.
    pub(crate) fn spread(first: Duration, longest: Duration) -> Self {
        Self { jitter: 0.5, ..Self::steady(first, longest) }
    }

    /// Counts a failure and says how long to wait after it.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait = (self.first * 2_u32.pow(doublings)).min(self.longest);
        wait.mul_f64(1.0 - self.jitter * fastrand::f64())
    }

    /// Failures in a row so far.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Something succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn doubles_up_to_the_bound_and_starts_over() {
        let mut backoff = Backoff::steady(FIRST, LONGEST);
        let waits: Vec<_> = (0..12).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]);
        assert_eq!(backoff.failures(), 12);
        backoff.reset();
        assert_eq!(backoff.next_wait(), FIRST);
    }

    #[test]
    fn jitter_spreads_waits_over_the_upper_half() {
        let waits: Vec<_> = (0..100).map(|_| Backoff::spread(FIRST, LONGEST).next_wait()).collect();
        assert!(waits.iter().all(|wait| (FIRST / 2..=FIRST).contains(wait)), "{waits:?}");
        let distinct: std::collections::HashSet<_> = waits.iter().collect();
        assert!(distinct.len() > 50, "{} distinct waits", distinct.len());
    }
}
