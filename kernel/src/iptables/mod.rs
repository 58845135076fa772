//! iptables, through its own programs: no netlink messages are as stable as the scripts of `iptables-restore`.
//!
//! There are two of it. The old one ([`Backend::Legacy`]) keeps its rules in tables of its own, the new one
//! ([`Backend::Nft`]) translates them to nftables. Both may be installed and in use on one node; what programs of one
//! write, those of the other do not see. Start reading at [`Iptables`].

mod choose;
mod comment;
mod complaint;
mod lock;
mod own;
mod presence;
mod program;
mod recent;
mod restore;
mod save;
mod size;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use choose::choose;
pub use comment::{comment, plain};
pub use complaint::OffendingLine;
pub use lock::Lock;
use lock::LockState;
pub use own::OwnProcesses;
use program::Program;
pub use recent::last_seen;
pub use save::SavedLine;
pub use size::TableSize;

use crate::Error;

/// How long to wait for the xtables lock, if nothing else is said.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Which of the two iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The one that translates to nftables: `iptables-nft`.
    Nft,
    /// The one with tables of its own in the kernel: `iptables-legacy`.
    Legacy,
}

impl Backend {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Nft, Self::Legacy];

    fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no back end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no iptables back end {0:?}: say nft or legacy")]
pub struct UnknownBackend(String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::BOTH.into_iter().find(|backend| backend.as_str() == word);
        found.ok_or_else(|| UnknownBackend(word.to_owned()))
    }
}

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Which packets pass.
    Filter,
    /// What addresses they get.
    Nat,
    /// What else is changed of them.
    Mangle,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Mangle];

    /// Its name, as scripts have it after the `*`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The programs of one back end for one family.
#[derive(Clone, Debug)]
pub struct Iptables {
    backend: Backend,
    ipv6: bool,
    restore: Program,
    save: Program,
    lock_wait: Duration,
    own: OwnProcesses,
    lock: LockState,
}

impl Iptables {
    /// Looks for `iptables-nft-restore` or `iptables-legacy-restore` (for IPv6 `ip6tables-…`) and the `-save` beside it,
    /// in `PATH` and where administrators' programs are. Where there is none so called, plain `iptables-restore` and
    /// `iptables-save` do if they say that they are of this back end.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when one of them is not installed.
    pub fn find(backend: Backend, ipv6: bool) -> Result<Self, Error> {
        Ok(Self {
            backend,
            ipv6,
            restore: Program::find(backend, ipv6, "restore")?,
            save: Program::find(backend, ipv6, "save")?,
            lock_wait: LOCK_WAIT,
            own: OwnProcesses::default(),
            lock: LockState::default(),
        })
    }

    /// The same, but waiting so long for the xtables lock instead of five seconds. Whole seconds count.
    #[must_use]
    pub fn with_lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// The same, but with its runs counted among others.
    #[must_use]
    pub fn counted_among(self, own: OwnProcesses) -> Self {
        Self { own, ..self }
    }

    /// Which back end's programs these are.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether they are for IPv6.
    #[must_use]
    pub fn ipv6(&self) -> bool {
        self.ipv6
    }

    /// Takes the lock of iptables-legacy, so that nobody else changes the tables until it is dropped. Our own scripts go
    /// on. (Programs too old to be told that it is held for them take it themselves, each run for itself.)
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody else holds it for too long; [`Error::Io`] when it cannot be opened.
    pub fn lock(&self) -> Result<Lock, Error> {
        Lock::take(self.lock.clone(), self.lock_wait)
    }

    /// Runs a script of `iptables-restore`, which changes what it names and leaves everything else (`--noflush`). Each
    /// table of it, from `*nat` to `COMMIT`, takes effect as a whole or not at all; those before one that is refused
    /// have taken effect.
    ///
    /// # Errors
    /// [`Error::Rejected`] with the line at fault and the text of the nearest line before it that starts with `# `;
    /// [`Error::Locked`] when another program kept the xtables lock; [`Error::ScriptTooLarge`] when a smaller one would
    /// do; [`Error::Permission`]; [`Error::Io`] when the program cannot be run or there was no memory.
    pub fn restore(&self, script: &str) -> Result<(), Error> {
        self.run_restore(script, restore::Purpose::Commit)
    }

    /// Has a script parsed and checked, and changes nothing. The kernel is not asked, so it may refuse the script later;
    /// and the nft back end does not even miss a chain or rule that is not there.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn rehearse(&self, script: &str) -> Result<(), Error> {
        self.run_restore(script, restore::Purpose::Test)
    }

    /// Lists a table, which is created if it does not exist. Lines are handed over as they come; one longer than 64 KiB
    /// is cut there.
    ///
    /// # Errors
    /// When the program fails or finds rules that are not of iptables' making ([`Error::Io`], with what it said).
    pub fn save(&self, table: Table, mut each: impl FnMut(SavedLine<'_>)) -> Result<(), Error> {
        self.run_save(Some(table), |_, line| each(line))
    }

    /// As [`Self::save`], each rule with how many packets it has matched since it was made.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn count(&self, table: Table, mut each: impl FnMut(SavedLine<'_>, u64)) -> Result<(), Error> {
        self.run_listing(Some(table), &["-c"], |_, line| {
            if let Some((packets, line)) = save::counted(line) {
                each(line, packets);
            }
        })
    }

    /// Lists all tables that exist and creates none. Tables other than those of [`Table`] are left out, and those with
    /// rules that are not of iptables' making.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_all(&self, mut each: impl FnMut(Table, SavedLine<'_>)) -> Result<(), Error> {
        self.run_save(None, |name, line| {
            if let Some(table) = Table::named(name) {
                each(table, line);
            }
        })
    }

    /// Lists all tables that exist and creates none, each line as it is printed with the name of its table: chains with
    /// their policies, rules, and what is said of tables that cannot be listed, after `# `.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn list_all(&self, each: impl FnMut(&str, &str)) -> Result<(), Error> {
        self.run_listing(None, &[], each)
    }

    /// How large a table of the legacy back end is, without listing it. The table is created if it does not exist.
    ///
    /// # Errors
    /// When the kernel has no such table or refuses to tell; always for [`Backend::Nft`].
    pub fn size(&self, table: Table) -> Result<TableSize, Error> {
        match self.backend {
            Backend::Legacy => size::of(table, self.ipv6),
            Backend::Nft => Err(Error::io(
                format!("tell the size of table {table} in nftables"),
                std::io::ErrorKind::Unsupported,
            )),
        }
    }

    /// The runs of [`Self::restore`] so far, by process id.
    #[must_use]
    pub fn own_processes(&self) -> OwnProcesses {
        self.own.clone()
    }
}
