//! Hearing of what others do to our chains. iptables-legacy tells nobody: how large the table is shows it, and costs nothing
//! to ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use endpoint_cache::Family;
use kernel::iptables::{Backend, Iptables as Programs, OwnProcesses, Table, TableSize};
use kernel::nft::{Family as NftFamily, Monitor, Table as NftTable};

use crate::enforcer::{Error, Watch};

/// Starts to listen, where there is something to hear. Chains of Kubernetes' other programs count too: theirs must not
/// come before ours.
pub(super) fn listen(backend: Backend, own: &OwnProcesses) -> Result<Option<Monitor>, Error> {
    if backend == Backend::Legacy {
        return Ok(None);
    }
    let table = |family| {
        let family = if family == Family::V6 { NftFamily::Ip6 } else { NftFamily::Ip };
        NftTable { family, name: Table::Filter.as_str().to_owned() }
    };
    let tables = Family::BOTH.map(table).to_vec();
    Ok(Some(Monitor::open_for_mentions(tables, "KUBE-", own.clone())?))
}

/// What was heard.
pub(super) struct News(pub(super) Monitor);

impl Watch for News {
    fn next_damage(&mut self) -> Result<String, Error> {
        Ok(self.0.next_disturbance()?.to_string())
    }
}

/// How often iptables-legacy is asked how large the table is.
const OFTEN: Duration = Duration::from_millis(250);

/// How large we left the tables of iptables-legacy, by whether they are IPv6's.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes(Arc<Mutex<BTreeMap<bool, TableSize>>>);

impl Sizes {
    /// Takes the table as it is. Nobody else must be able to change it meanwhile.
    pub(super) fn note(&self, programs: &Programs) -> Result<(), Error> {
        self.known().insert(programs.ipv6(), programs.size(Table::Filter)?);
        Ok(())
    }

    /// What somebody else changed since, in words.
    fn difference(&self, programs: &Programs) -> Result<Option<String>, Error> {
        let mut known = self.known();
        let Some(left) = known.get_mut(&programs.ipv6()) else { return Ok(None) };
        let found = programs.size(Table::Filter)?;
        if found == *left {
            return Ok(None);
        }
        let program = if programs.ipv6() { "ip6tables" } else { "iptables" };
        let (before, now) = (std::mem::replace(left, found).entries, found.entries);
        Ok(Some(format!(
            "somebody changed table filter of {program}-legacy ({now} entries instead of {before})"
        )))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<bool, TableSize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the tables of iptables-legacy once in a while.
pub(super) struct Look {
    pub(super) sizes: Sizes,
    pub(super) families: Vec<Programs>,
}

impl Watch for Look {
    fn next_damage(&mut self) -> Result<String, Error> {
        loop {
            thread::sleep(OFTEN);
            for programs in &self.families {
                if let Some(difference) = self.sizes.difference(programs)? {
                    return Ok(difference);
                }
            }
        }
    }
}
