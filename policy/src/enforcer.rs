//! What puts a program into the kernel.

use std::sync::Arc;
use std::time::Instant;

use endpoint_cache::object::ObjectName;

use crate::policy::Direction;
use crate::program::{Delta, Profile, Program};

/// A way of enforcing policies. Used by one thread.
pub trait Enforcer: Send {
    /// `nftables` or `iptables`.
    fn name(&self) -> &'static str;

    /// Whether there are rules in the kernel already, of this process or of an earlier one.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn is_in_force(&mut self) -> Result<bool, Error>;

    /// Brings the kernel to `program`, whatever it holds: the first thing to call, and what to call after anything failed
    /// or somebody else changed what is ours. There is no moment in which less is denied than before and after.
    ///
    /// # Errors
    /// When the kernel refuses, or cannot be read. What was in force stays so.
    fn resync(&mut self, program: &Program) -> Result<Report, Error>;

    /// Brings the kernel from what the last call left to `program`, of which `delta` is what changed.
    ///
    /// # Errors
    /// As [`Enforcer::resync`], which has to follow then.
    fn apply(&mut self, program: &Program, delta: &Delta) -> Result<Report, Error>;

    /// When [`Enforcer::tidy`] is to be called next, if at all: what was allowed before drains only so long.
    fn due(&self) -> Option<Instant>;

    /// Ends what was to end by now.
    ///
    /// # Errors
    /// As [`Enforcer::resync`].
    fn tidy(&mut self, now: Instant) -> Result<Report, Error>;

    /// Listens for changes that others make to what is ours from now on: one more [`Enforcer::resync`] is to follow, for
    /// what they did until now. `None` where the kernel does not tell: a resync now and then has to do.
    ///
    /// # Errors
    /// When the kernel cannot be listened to.
    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, Error>;

    /// What the kernel has counted since the rules were made.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn counts(&mut self) -> Result<Counts, Error>;
}

/// Hears of changes that others make. Waits on a thread of its own.
pub trait Watch: Send {
    /// Waits for the next reason to call [`Enforcer::resync`]: who changed what, in words, as far as the kernel tells.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    fn next_damage(&mut self) -> Result<String, Error>;
}

/// What a sync did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Chains, rules and elements written or removed. 0 when everything was right already.
    pub operations: usize,
    /// Whether connections under way are judged anew.
    pub judged_anew: bool,
}

/// What the kernel has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First packets of connections that each policy let pass.
    pub allowed: Vec<(Direction, ObjectName, u64)>,
    /// Packets that the policies of a profile did not let pass (or, in audit, would not have).
    pub denied: Vec<(Arc<Profile>, u64)>,
    /// Packets of addresses that are no known pod's.
    pub unknown: u64,
}

/// Why a sync failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or could not be read.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A change came before the first sync, or after a failed one.
    #[error("nothing is known of what is programmed: a full sync must come first")]
    NotSynced,
    /// There are sets that iptables cannot hold.
    #[error("{what} is more than an ipset holds ({most}): policies need nftables here (--policy-backend)")]
    TooMany {
        /// Which set.
        what: String,
        /// How many members it may have.
        most: usize,
    },
}
