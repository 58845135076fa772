//! Packets that policies deny, told in the log (`--policy-log-denied`): the kernel hands their first bytes to a thread that
//! hands them to the loop, which alone knows whose they are.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use kernel::nflog::{Headers, Heard, Listener, headers};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy::{Compiler, LOG_GROUP, Profile};

use super::input::{Inbox, Message};
use crate::event_loop::Offered;

/// Denials that are told in a second at most; of the others, how many there were.
const IN_A_SECOND: u32 = 50;
/// Bytes that are looked at of a packet: its headers.
const RANGE: u16 = 128;

/// A packet that was denied, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// What the rule says of it.
    pub(super) prefix: String,
    /// From whom to whom it is.
    pub(super) headers: Headers,
}

/// Begins to listen.
///
/// # Errors
/// When another program listens already, the kernel cannot, or there is no thread.
pub(super) fn listen(inbox: Inbox) -> anyhow::Result<()> {
    let listener = Listener::open(LOG_GROUP, RANGE)?;
    let work = move || {
        if let Err(error) = hand_on(listener, &inbox) {
            tracing::warn!("what policies deny is not logged any longer: {error:#}");
        }
    };
    thread::Builder::new().name("policy-denials".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

/// Hands on what is heard until nobody listens any more.
fn hand_on(mut listener: Listener, inbox: &Inbox) -> anyhow::Result<()> {
    let mut allowance = Allowance::begin(Instant::now());
    loop {
        match poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for logged packets"),
        }
        while let Some(heard) = listener.next_now()? {
            if let Some(untold) = allowance.renew(Instant::now()) {
                tracing::info!(untold, "policies denied more packets than are logged one by one");
            }
            let Heard::Packet(packet) = heard else {
                tracing::info!("policies denied more packets than could be told");
                continue;
            };
            let Some(headers) = headers(&packet.bytes) else { continue };
            if !allowance.take() {
                continue;
            }
            match inbox.offer(Message::Denied(Denial { prefix: packet.prefix, headers })) {
                Offered::Taken => {}
                Offered::Full => allowance.untold += 1,
                Offered::Gone => return Ok(()),
            }
        }
    }
}

/// How many may be told yet in this second.
#[derive(Debug)]
struct Allowance {
    since: Instant,
    left: u32,
    untold: u32,
}

impl Allowance {
    fn begin(now: Instant) -> Self {
        Self { since: now, left: IN_A_SECOND, untold: 0 }
    }

    /// Begins another second, if this one is over; how many were not told in it, if any.
    fn renew(&mut self, now: Instant) -> Option<u32> {
        if now.saturating_duration_since(self.since) < Duration::from_secs(1) {
            return None;
        }
        let before = std::mem::replace(self, Self::begin(now));
        (before.untold > 0).then_some(before.untold)
    }

    /// Whether one more may be told; it is counted if not.
    fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.untold += 1,
        }
        self.untold == 0
    }
}

/// Tells of a denial in names that users know.
pub(super) fn tell(denial: &Denial, compiler: &Compiler, audit: bool) {
    let Denial { prefix, headers } = denial;
    let pod = |address| compiler.pod_at(address).map(|name| name.to_string());
    let profile = compiler.program().profiles.keys().find(|profile| profile.log_prefix() == *prefix);
    let direction = profile.map(|profile| profile.direction.as_str());
    let policies = profile.map(|profile| names(profile));
    let what = match (audit, profile.is_some()) {
        (false, true) => "denied: none of the policies allows it",
        (true, true) => "would be denied: none of the policies allows it",
        (false, false) => "denied: an address here is of no known pod",
        (true, false) => "would be denied: an address here is of no known pod",
    };
    tracing::info!(
        source = %headers.source,
        source_port = headers.source_port,
        source_pod = pod(headers.source),
        destination = %headers.destination,
        destination_port = headers.destination_port,
        destination_pod = pod(headers.destination),
        protocol = protocol(headers.protocol),
        direction,
        policies,
        "{what}"
    );
}

fn names(profile: &Profile) -> String {
    let names: Vec<String> = profile.policies.iter().map(ToString::to_string).collect();
    names.join(",")
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_part_and_counted() {
        let start = Instant::now();
        let mut allowance = Allowance::begin(start);
        let told = (0..IN_A_SECOND + 7).filter(|_| allowance.take()).count();
        assert_eq!(told, IN_A_SECOND as usize);
        assert_eq!(allowance.renew(start + Duration::from_millis(900)), None);
        assert_eq!(allowance.renew(start + Duration::from_secs(1)), Some(7));
        assert!(allowance.take());
        assert_eq!(allowance.renew(start + Duration::from_secs(2)), None);
    }
}
