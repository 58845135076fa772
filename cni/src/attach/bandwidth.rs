//! How much a pod may send and receive.
//!
//! What it receives is what the node's end of its interface sends: that passes a token bucket. What it sends is led to a
//! device of its own, to wait there in another bucket, and comes back as if nothing had been.

use std::time::Duration;

use kernel::link::{Link, LinkChange, Links};
use kernel::qdisc::{Bucket, Qdiscs};

use super::{Error, Wanted, names};

/// How long a packet may wait, as in the reference plugin: more would only fill buffers.
const LATENCY: Duration = Duration::from_millis(25);
/// What passes at once if nothing is said, as a time at full rate.
const DEFAULT_BURST: Duration = Duration::from_millis(100);
/// Bytes of an Ethernet header with a VLAN tag.
const ETHERNET: u32 = 18;

/// The token bucket of a rate and a burst in bits; `None` where there is no limit.
pub(super) fn bucket(rate: u64, burst: u64, mtu: u32) -> Option<Bucket> {
    (rate > 0).then_some(())?;
    let rate = (rate / 8).max(1);
    let by_default = u128::from(rate) * DEFAULT_BURST.as_millis() / 1000;
    let burst = match burst {
        0 => u32::try_from(by_default).unwrap_or(u32::MAX),
        burst => u32::try_from(burst / 8).unwrap_or(u32::MAX),
    };
    // In a bucket smaller than a packet nothing ever passes.
    Some(Bucket { rate, burst: burst.max(mtu.saturating_add(ETHERNET)), latency: LATENCY })
}

/// What the pod receives, and what it sends.
pub(super) fn buckets(wanted: &Wanted, mtu: u32) -> (Option<Bucket>, Option<Bucket>) {
    let limits = wanted.bandwidth.unwrap_or_default();
    (
        bucket(limits.ingress_rate, limits.ingress_burst, mtu),
        bucket(limits.egress_rate, limits.egress_burst, mtu),
    )
}

/// Limits what a pod may send and receive, if anything is said.
pub(super) fn limit(wanted: &Wanted, host: &Link, links: &mut Links) -> Result<(), Error> {
    let (receives, sends) = buckets(wanted, host.mtu);
    if receives.is_none() && sends.is_none() {
        return Ok(());
    }
    let mut qdiscs = Qdiscs::open()?;
    if let Some(bucket) = receives {
        qdiscs.limit(host.index, &bucket)?;
    }
    if let Some(bucket) = sends {
        let name = names::ifb_name(&wanted.host_interface);
        if let Some(left) = links.find(&name)?.filter(|link| link.kind.as_deref() == Some("ifb")) {
            links.remove(left.index)?;
        }
        links.make_ifb(&name)?;
        let ifb = links.find(&name)?.ok_or(kernel::Error::Malformed("an ifb that was made is not listed"))?;
        let quiet = LinkChange { mtu: Some(host.mtu), no_link_local: true, ..LinkChange::default() };
        links.change(ifb.index, &quiet)?;
        links.change(ifb.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        qdiscs.limit(ifb.index, &bucket)?;
        qdiscs.redirect(host.index, ifb.index)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_bits_and_packets_always_fit() {
        assert_eq!(bucket(0, 1_000_000, 1500), None);
        let plain = Bucket { rate: 1_000_000, burst: 100_000, latency: LATENCY };
        assert_eq!(bucket(8_000_000, 800_000, 1500), Some(plain));
        assert_eq!(bucket(8_000_000, 0, 1500), Some(plain));
        assert_eq!(bucket(8_000_000, 8, 1500).unwrap().burst, 1518);
        assert_eq!(bucket(1, 1, 1500).unwrap().rate, 1);
        assert_eq!(bucket(u64::MAX, u64::MAX, u32::MAX).unwrap().burst, u32::MAX);
    }
}
