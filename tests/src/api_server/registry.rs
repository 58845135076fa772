//! Which watches are open.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Counts open watches, and lets others wait for a count.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    open: Mutex<Open>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    ids: BTreeSet<u64>,
    last: u64,
}

/// An open watch.
pub(crate) struct OpenWatch {
    registry: Arc<Registry>,
    id: u64,
}

impl Registry {
    /// Opens a watch.
    pub(crate) fn open(self: &Arc<Self>) -> OpenWatch {
        let id = self.change(|open| {
            open.last += 1;
            open.ids.insert(open.last);
            open.last
        });
        OpenWatch { registry: Arc::clone(self), id }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.change(|open| open.ids.len())
    }

    /// How many were ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.change(|open| open.last)
    }

    /// None counts as open any more.
    pub(crate) fn forget_all(&self) {
        self.change(|open| open.ids.clear());
    }

    /// Waits until so many are open (first number), or so many were ever opened (second). Says how many there are if
    /// that does not happen in time.
    pub(crate) fn wait(
        &self,
        wanted: impl Fn(usize, u64) -> bool,
        patience: Duration,
    ) -> Result<(), (usize, u64)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let unmet = |open: &mut Open| !wanted(open.ids.len(), open.last);
        let waited = self.changed.wait_timeout_while(open, patience, unmet);
        let (open, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err((open.ids.len(), open.last)) } else { Ok(()) }
    }

    fn change<T>(&self, body: impl FnOnce(&mut Open) -> T) -> T {
        let result = body(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.registry.change(|open| open.ids.remove(&self.id));
    }
}
