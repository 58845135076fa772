//! What there is to serve, for `pointsman status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use endpoint_cache::{Census, Family};
use modes::Report;

/// What the sync loop knows and has programmed.
#[derive(Debug, Default)]
pub(crate) struct Inventory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    census: Census,
    /// Rules of iptables that there are, where the mode counts them.
    rules: BTreeMap<(Family, &'static str), usize>,
}

impl Inventory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many objects are known now.
    pub(crate) fn counted(&self, census: Census) {
        self.state().census = census;
    }

    /// A sync programmed what it should.
    pub(crate) fn synced(&self, report: &Report) {
        let counted = report.iptables_rules.iter().filter(|rules| rules.total > 0);
        self.state().rules.extend(counted.map(|rules| ((rules.family, rules.table), rules.total)));
    }

    /// The objects, and the rules of iptables.
    pub(crate) fn now(&self) -> (Census, usize) {
        let state = self.state();
        (state.census, state.rules.values().sum())
    }
}
