//! The ways to program a node, one folder a mode.
//!
//! Each mode is two halves: `render` turns a [`Delta`] into the fewest kernel operations (pure:
//! values in, values out), and the mode itself hands them to [`kernel`] as one transaction. A mode knows nothing of
//! where objects come from and calls nobody back; what came of a sync is its return value.
//!
//! Start reading at [`Mode`], then `nftables/mod.rs`.

mod context;
mod difference;
mod flows;
pub mod iptables;
pub mod ipvs;
mod news;
pub mod nftables;
mod settings;
#[cfg(test)]
mod testing;
pub mod userspace;

use std::time::Duration;

use endpoint_cache::object::ObjectName;
use endpoint_cache::{Delta, Desired, Family};

pub use context::NodePortReach;
pub use difference::{Comparison, Difference, Sign};
pub use settings::{DetectLocal, NodePortAddresses, Settings};

/// One way to program the node.
pub trait Mode {
    /// The name that `--proxy-mode` chooses it by.
    fn name(&self) -> &'static str;

    /// The address families that it programs: both, unless the node or the settings have one only.
    fn families(&self) -> Vec<Family> {
        Family::BOTH.into()
    }

    /// Whether node ports answer on all of the node's addresses if the user does not say, and not on the primary ones
    /// alone.
    fn node_ports_everywhere(&self) -> bool {
        true
    }

    /// Reads what the kernel holds and changes only what differs from `desired`. The first sync, and the one after
    /// any failure.
    ///
    /// # Errors
    /// When the kernel cannot be read or refuses the transaction; nothing is half done then, and calling it again
    /// starts from a fresh read.
    fn resync(&mut self, desired: &Desired) -> Result<Report, Error>;

    /// Programs the service ports that changed since the last successful call. A delta that [changes the
    /// node](Delta::changes_node) takes a [`Mode::resync`], since every rule may depend on it.
    ///
    /// # Errors
    /// When the kernel refuses the transaction. What this mode remembers is void then: call [`Mode::resync`] next.
    fn apply(&mut self, delta: &Delta) -> Result<Report, Error>;

    /// Asks the kernel whether it would take a resync, and changes nothing, neither there nor of what is remembered.
    ///
    /// # Errors
    /// As [`Mode::resync`].
    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error>;

    /// Compares the kernel with `desired` as [`Mode::resync`] does, and changes nothing, neither there nor of what is
    /// remembered. A mode that leaves nothing in the kernel finds nothing.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn compare(&mut self, _desired: &Desired) -> Result<Comparison, Error> {
        Ok(Comparison::default())
    }

    /// Takes other settings, for the families that it was opened with: the next [`Mode::resync`] follows them. False when
    /// it cannot, and another process has to.
    fn reconfigure(&mut self, settings: &Settings) -> bool {
        let _ = settings;
        false
    }

    /// Removes what earlier transactions left without use. Called when there is nothing else to do, and again while it
    /// says that it is [unfinished](Report::unfinished).
    ///
    /// # Errors
    /// As [`Mode::apply`].
    fn tidy(&mut self) -> Result<Report, Error>;

    /// Leaves the node such that it serves `desired` without this process, as far as it can. Called last of all, when the
    /// process is asked to end. Most modes need not do anything.
    ///
    /// # Errors
    /// As [`Mode::resync`].
    fn hand_over(&mut self, _desired: &Desired) -> Result<(), Error> {
        Ok(())
    }

    /// Starts to listen for changes that others make to what this mode programs. To be called when the first
    /// [`Mode::resync`] has succeeded; what happened since that began is heard of too.
    ///
    /// # Errors
    /// When the kernel cannot be listened to.
    fn watch(&mut self) -> Result<Box<dyn Watch>, Error>;
}

/// Hears of changes that others make to what a mode programs. Waits on a thread of its own.
pub trait Watch: Send {
    /// Waits for the next reason to call [`Mode::resync`].
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    fn next_disturbance(&mut self) -> Result<Disturbance, Error>;
}

/// Why the kernel should be read and put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Somebody changed what is programmed: who changed what, in words, as far as the kernel tells.
    Damage(String),
    /// The node is another than it was: how, in words.
    Node(String),
    /// Nothing that is known of. There are changes that the kernel tells nobody of.
    Checkup,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Kernel operations: chains, rules and elements written or removed. 0 when everything was right already.
    pub operations: usize,
    /// Bytes handed to the kernel, where the mode counts them.
    pub bytes: usize,
    /// Searches for conntrack entries whose endpoint is gone, at most one in each family.
    pub cleanings: Vec<Cleaning>,
    /// Rules of iptables, once for each family and table with any.
    pub iptables_rules: Vec<IptablesRules>,
    /// Whether there is something that can only be done later: [`Mode::tidy`] is to be called again after some seconds.
    pub unfinished: bool,
    /// What the users of Services should know, each once.
    pub notices: Vec<Notice>,
}

impl Report {
    /// Conntrack entries removed because their endpoint is gone.
    #[must_use]
    pub fn flows_removed(&self) -> usize {
        self.cleanings.iter().map(|cleaning| cleaning.removed).sum()
    }

    /// What is counted of the rules of a family in a table.
    pub(crate) fn iptables_rules_of(&mut self, family: Family, table: &'static str) -> &mut IptablesRules {
        let known =
            self.iptables_rules.iter().position(|rules| (rules.family, rules.table) == (family, table));
        let at = known.unwrap_or(self.iptables_rules.len());
        if known.is_none() {
            self.iptables_rules.push(IptablesRules { family, table, total: 0, written: 0 });
        }
        &mut self.iptables_rules[at]
    }

    /// Whether anything in the kernel is other than before.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.operations > 0 || self.flows_removed() > 0
    }
}

/// A search for conntrack entries whose endpoint is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaning {
    /// Among the flows of this family.
    pub family: Family,
    /// Entries that were removed.
    pub removed: usize,
    /// How long that took.
    pub duration: Duration,
}

/// The rules of iptables of one family in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IptablesRules {
    /// The family.
    pub family: Family,
    /// The table's name.
    pub table: &'static str,
    /// Rules of ours that there are now; 0 where the mode does not count them.
    pub total: usize,
    /// Rules that the sync wrote.
    pub written: usize,
}

/// Something about a Service that its users should know, though nothing has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which.
    pub service: ObjectName,
    /// What it is about: a word such as events of Kubernetes have for a reason.
    pub reason: &'static str,
    /// What is the matter and what to do about it, one sentence.
    pub message: String,
}

/// Why a sync failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or could not be read.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The kernel cannot do what the mode needs.
    #[error(
        "the kernel cannot do for {family} what this mode needs (nf_tables with nat, conntrack, fib, numgen; 5.13 or later): {error}"
    )]
    Lacking {
        /// The family.
        family: Family,
        /// What it refused.
        error: kernel::Error,
    },
    /// IPVS cannot schedule as it was asked to.
    #[error("the kernel has no IPVS scheduler {asked}: the kernel offers {offered} (--ipvs-scheduler)")]
    NoScheduler {
        /// What was asked for.
        asked: String,
        /// What there is.
        offered: String,
    },
    /// The kernel has refused a service port, and will again.
    #[error("the kernel has refused service port {service}")]
    RefusedBefore {
        /// Which.
        service: String,
    },
    /// There is no way to put answers in.
    #[error("there is no {family} table of iptables")]
    NoTables {
        /// The family.
        family: Family,
    },
    /// The sysctl that makes the kernel look for sources by the mark.
    #[error("net.ipv4.conf.all.src_valid_mark is 1: answers to clients' addresses would be dropped")]
    MarkedSources,
    /// There is no device `lo`.
    #[error("there is no device lo to give the forwarder an address on")]
    NoLoopback,
    /// The forwarder cannot listen.
    #[error("{service} is not served: {cause}")]
    Listen {
        /// The target of a service port.
        service: String,
        /// Why not.
        cause: userspace::forward::OpenError,
    },
    /// There is nowhere to listen.
    #[error(transparent)]
    NoAddress(userspace::forward::OpenError),
    /// Every port is taken.
    #[error("{service} is not served: no port is free for it (--proxy-port-range)")]
    NoPort {
        /// The target of a service port.
        service: String,
    },
    /// There is no thread to be had.
    #[error("cannot start a thread: {0}")]
    NoThread(String),
    /// A change came before the first sync, or after a failed one.
    #[error("nothing is known of what is programmed: a full sync must come first")]
    NotSynced,
}

impl Error {
    /// Whether iptables refused something, or could not be run.
    #[must_use]
    pub fn is_of_iptables(&self) -> bool {
        matches!(self, Self::Kernel(error) if error.is_of_iptables())
    }

    /// Whether it may be for what was to be programmed, so that it makes sense to look for the part that is refused.
    #[must_use]
    pub fn blames_the_request(&self) -> bool {
        match self {
            Self::Kernel(error) => error.blames_the_request(),
            Self::RefusedBefore { .. } | Self::NoPort { .. } => true,
            _ => false,
        }
    }
}
