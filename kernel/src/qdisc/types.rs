//! Token buckets and what is attached to devices.

use std::time::Duration;

/// A token bucket: what it lets pass on the average, what it lets pass at once, and how long the rest may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second, with their Ethernet headers; not 0.
    pub rate: u64,
    /// Bytes that may pass at once. Must have room for the device's largest packet.
    pub burst: u32,
    /// How long a byte may wait; what would wait longer is dropped.
    pub latency: Duration,
}

impl Bucket {
    /// Bytes that wait at most, the burst among them.
    pub(super) fn limit(&self) -> u32 {
        let waiting = u128::from(self.rate).saturating_mul(self.latency.as_micros()) / 1_000_000;
        u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(self.burst)
    }
}

/// A queueing discipline of a device, as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of the device.
    pub link: u32,
    /// Whether it is the device's first: what all that the device sends passes.
    pub is_root: bool,
    /// What it is.
    pub kind: QdiscKind,
}

/// What a queueing discipline is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QdiscKind {
    /// A token bucket.
    Bucket {
        /// Bytes a second.
        rate: u64,
        /// Bytes that may pass at once, give or take what the kernel's clock rounds.
        burst: u64,
    },
    /// Where classifiers see what a device receives.
    Ingress,
    /// Any other, by the kernel's name for it.
    Other(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_by_the_time_that_it_may() {
        let bucket = Bucket { rate: 1_000_000, burst: 5_000, latency: Duration::from_millis(25) };
        assert_eq!(bucket.limit(), 30_000);
        let huge = Bucket { rate: u64::MAX, burst: u32::MAX, latency: Duration::MAX };
        assert_eq!(huge.limit(), u32::MAX);
    }
}
