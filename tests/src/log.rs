//! What the proxy logs, to be waited on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::vm;

/// How long anything that the proxy is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a line of its log says after every sync.
const SYNCED: &str = "synced";

/// What the proxy has logged, to be waited on.
#[derive(Debug, Default)]
pub(crate) struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct LogState {
    pub(crate) lines: Vec<String>,
    syncs: usize,
    ended: bool,
}

impl Log {
    pub(crate) fn lines(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn began(&self) {
        self.lines().ended = false;
    }

    pub(crate) fn push(&self, line: String) {
        let mut state = self.lines();
        state.syncs += usize::from(line.contains(SYNCED));
        state.lines.push(line);
        self.changed.notify_all();
    }

    pub(crate) fn ended(&self) {
        self.lines().ended = true;
        self.changed.notify_all();
    }

    pub(crate) fn syncs(&self) -> usize {
        self.lines().syncs
    }

    pub(crate) fn await_syncs(&self, syncs: usize) -> Result<()> {
        let enough = |lines: &[String]| lines.iter().filter(|line| line.contains(SYNCED)).count() >= syncs;
        self.await_that("sync", enough)
    }

    pub(crate) fn await_quiet(&self, quiet: Duration) -> Result<()> {
        let deadline = Instant::now() + vm::patience(PATIENCE);
        let mut state = self.lines();
        while Instant::now() < deadline {
            let lines = state.lines.len();
            let (next, waited) =
                self.changed.wait_timeout(state, quiet).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() && state.lines.len() == lines {
                return Ok(());
            }
        }
        bail!("pointsman does not come to rest; its log:\n{}", state.lines.join("\n"))
    }

    pub(crate) fn await_that(&self, what: &str, mut come: impl FnMut(&[String]) -> bool) -> Result<()> {
        let deadline = Instant::now() + vm::patience(PATIENCE);
        let mut state = self.lines();
        while !come(&state.lines) {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let how = if state.ended { "ended before it would" } else { "did not" };
                bail!("pointsman {how} {what}; its log:\n{}", state.lines.join("\n"));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}
