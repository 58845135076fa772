//! Traffic that must not stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::place::{Conversation, Flow, Outcome};

/// Exchanges before and after something is done, at least.
const ENOUGH: usize = 20;

/// Echoes over a connection without pause while something is done; returns the longest that an echo took.
///
/// # Errors
/// When that fails, or the connection breaks.
pub fn while_echoing(
    conversation: &mut Conversation,
    doing: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    while_exchanging(|| conversation.echo(), doing).context("a connection did not last")
}

/// Asks over UDP without pause while something is done: every datagram must be answered. Returns the longest that an
/// answer took.
///
/// # Errors
/// When that fails, or a datagram is lost.
pub fn while_asking(flow: &Flow, doing: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let ask = || {
        let outcome = flow.ask()?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "a datagram was met with {outcome}");
        Ok(())
    };
    while_exchanging(ask, doing)
}

fn while_exchanging(
    mut exchange: impl FnMut() -> Result<()> + Send,
    doing: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    let (done, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                exchange()?;
                longest = longest.max(start.elapsed());
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
            Ok(longest)
        });
        let await_exchanges = |count| {
            while exchanges.load(Ordering::Relaxed) < count && !traffic.is_finished() {
                thread::yield_now();
            }
        };
        await_exchanges(ENOUGH);
        let result = doing();
        await_exchanges(exchanges.load(Ordering::Relaxed) + ENOUGH);
        done.store(true, Ordering::Relaxed);
        let traffic = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(traffic)
    })
}
