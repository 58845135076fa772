//! Noticing changes that others make by iptables-legacy, which tells nobody: we look once in a while how large the tables
//! are, which costs nothing, unlike listing them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kernel::iptables::{Iptables, Table, TableSize};

use crate::{Disturbance, Error, Watch};

/// How often we look at the tables of iptables-legacy.
const OFTEN: Duration = Duration::from_millis(250);
/// How often at the least, when others keep changing them, but nothing of ours: each time we would have to list them.
const SELDOM: Duration = Duration::from_secs(32);

/// What we know of the size of iptables-legacy's tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    /// As we left them, by family and table; `None` while that is not known.
    left: BTreeMap<(bool, Table), TableSize>,
    /// The table in which others were found to have changed something, which has not been looked into yet.
    changed: Option<String>,
    wait: Duration,
}

impl Default for Known {
    fn default() -> Self {
        Self { left: BTreeMap::new(), changed: None, wait: OFTEN }
    }
}

impl Sizes {
    /// Changes the tables, while nobody else does. What others have done since the last time is noticed.
    pub(super) fn change<T>(
        &self,
        iptables: &Iptables,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = iptables.lock()?;
        let mut known = self.known();
        known.look(iptables)?;
        let result = work();
        known.take(iptables)?;
        result
    }

    /// The same, but everything is read and put right: what others have done is seen to. Says how much there was to do.
    pub(super) fn resync(
        &self,
        iptables: &Iptables,
        work: impl FnOnce() -> Result<usize, Error>,
    ) -> Result<(), Error> {
        let _lock = iptables.lock()?;
        let mut known = self.known();
        known.changed = None;
        let result = work();
        known.take(iptables)?;
        known.wait = if result? > 0 { OFTEN } else { (known.wait * 2).min(SELDOM) };
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits some time; says what others have changed meanwhile, if they have.
    fn wait(&self, families: &[Iptables]) -> Result<Option<String>, Error> {
        let wait = self.known().wait;
        thread::sleep(wait);
        let mut known = self.known();
        families.iter().try_for_each(|iptables| known.look(iptables))?;
        if known.changed.is_none() {
            known.wait = OFTEN;
        }
        Ok(known.changed.take())
    }
}

impl Known {
    /// Notes what others have changed.
    fn look(&mut self, iptables: &Iptables) -> Result<(), Error> {
        for table in Table::ALL {
            let Some(left) = self.left.get(&(iptables.ipv6(), table)).copied() else { continue };
            let found = iptables.size(table)?;
            if found != left {
                let program = if iptables.ipv6() { "ip6tables" } else { "iptables" };
                self.changed = Some(format!(
                    "somebody changed table {} of {program}-legacy ({} entries instead of {})",
                    table.as_str(),
                    found.entries,
                    left.entries,
                ));
                self.left.insert((iptables.ipv6(), table), found);
            }
        }
        Ok(())
    }

    /// Takes the tables as they are.
    fn take(&mut self, iptables: &Iptables) -> Result<(), Error> {
        for table in Table::ALL {
            self.left.insert((iptables.ipv6(), table), iptables.size(table)?);
        }
        Ok(())
    }
}

/// Looks at the size of tables once in a while.
pub(super) struct LegacyWatch {
    pub(super) sizes: Sizes,
    pub(super) families: Vec<Iptables>,
}

impl Watch for LegacyWatch {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        loop {
            if let Some(change) = self.sizes.wait(&self.families)? {
                return Ok(Disturbance::Damage(change));
            }
        }
    }
}
