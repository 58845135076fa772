//! Connections all the time, from a pod and from outside, and what becomes of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::{Outcome, Place, Protocol};

use crate::world::{CHANGING, STEADY, Shared, World, addresses, coming_and_going};

/// Between two connections of one connector: enough to catch what fails for some milliseconds, and little enough that
/// the machine is left to others.
const PACE: Duration = Duration::from_millis(25);
/// What is told of, at most; the rest is counted.
const TOLD: usize = 20;
/// Of connections to services that change all the time, one in so many may be lost though there are endpoints: on a machine
/// that is busy with other tests, one in some thousands is. To the service that stays as it is, none.
const BEARABLE: u64 = 1_000;

/// What became of all connections so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    over: AtomicBool,
    /// To services that are healthy all the time.
    pub(crate) healthy: AtomicU64,
    /// To services that come and go.
    pub(crate) others: AtomicU64,
    /// Of those, without an answer because there was no endpoint.
    pub(crate) unanswered: AtomicU64,
    /// Failed while the rules were flushed.
    pub(crate) flushed: AtomicU64,
    /// Failed otherwise, to services that change.
    pub(crate) lost: AtomicU64,
    /// Failed otherwise, to the service that stays as it is.
    pub(crate) failed: AtomicU64,
    /// Whether the machine has other work, so that now and then a connection is not answered in time.
    busy: bool,
    told: Mutex<Vec<String>>,
    told_of_lost: Mutex<Vec<String>>,
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
struct Connector<'a> {
    from: Place<'a>,
    /// Which of a service's addresses.
    address: usize,
    protocol: Protocol,
    healthy: bool,
}

impl Traffic {
    /// None yet, on a machine that may be busy with other work.
    pub(crate) fn new(busy: bool) -> Self {
        Self { busy, ..Self::default() }
    }

    /// What failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let [lost, failed, healthy, others] = [&self.lost, &self.failed, &self.healthy, &self.others]
            .map(|count| count.load(Ordering::Relaxed));
        let bearable = |count: u64| count * BEARABLE <= healthy + others;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.busy {
            true if bearable(lost + failed) => Vec::new(),
            false if bearable(lost) => told,
            _ => [told, self.losses()].concat(),
        }
    }

    /// What was lost to services that change.
    pub(crate) fn losses(&self) -> Vec<String> {
        self.told_of_lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects for as long as something else takes, which is handed all there is to know.
    pub(crate) fn during<T>(
        &self,
        world: &mut World,
        meanwhile: impl FnOnce(&mut World) -> Result<T>,
    ) -> Result<T> {
        let (bed, expected) = world.shared();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (address, namespace) in [bed.pod_namespace(3), &bed.client].into_iter().enumerate() {
                for protocol in Protocol::BOTH {
                    for healthy in [true, false] {
                        let connector = Connector { from: Place::of(namespace), address, protocol, healthy };
                        let expected = &expected;
                        threads.push(scope.spawn(move || self.connect(connector, expected)));
                    }
                }
            }
            let result = meanwhile(world);
            self.over.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            result
        })
    }

    fn connect(&self, connector: Connector<'_>, world: &Shared) -> Result<()> {
        let numbers: Vec<u8> =
            if connector.healthy { vec![STEADY, CHANGING] } else { coming_and_going().collect() };
        let mut next = numbers.iter().cycle();
        while let Some(number) = next.next().filter(|_| !self.over.load(Ordering::Relaxed)) {
            let to = addresses(*number)[connector.address];
            let began = Instant::now();
            let outcome = if world.expected().has_endpoints(*number) {
                connector.from.connect(connector.protocol, to)?
            } else {
                // What leads nowhere may be silent.
                connector.from.connect_briefly(connector.protocol, to)?
            };
            self.count(connector, *number, began, &outcome, world);
            // The pace is what is asked for, not a wait for something.
            thread::sleep(PACE);
        }
        Ok(())
    }

    fn count(&self, connector: Connector<'_>, number: u8, began: Instant, outcome: &Outcome, world: &Shared) {
        let ended = Instant::now();
        let all = if connector.healthy { &self.healthy } else { &self.others };
        all.fetch_add(1, Ordering::Relaxed);
        let expected = world.expected();
        let Some(complaint) = expected.complaint(number, began, ended, outcome) else {
            if !matches!(outcome, Outcome::Answered { .. }) {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        if expected.was_flushed(began, ended) {
            self.flushed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(expected);
        let (failed, told) =
            if number == STEADY { (&self.failed, &self.told) } else { (&self.lost, &self.told_of_lost) };
        failed.fetch_add(1, Ordering::Relaxed);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            let (from, protocol) = (connector.from.namespace.name(), connector.protocol.name());
            told.push(format!("service {number} from {from} over {protocol}: {complaint}"));
        }
    }
}
