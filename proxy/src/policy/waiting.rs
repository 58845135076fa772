//! New pods that wait until what policies ask about them is in force.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use endpoint_cache::object::ObjectName;
use policy::Compiler;

/// A pod that has just been given addresses.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// The pod.
    pub(crate) pod: ObjectName,
    /// Its UID, if that was said: another of the same name may have been there before.
    pub(crate) uid: Option<String>,
    /// The addresses that it has been given.
    pub(crate) addresses: Vec<IpAddr>,
}

/// A pod that waits.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The pod.
    pub(super) newcomer: Newcomer,
    /// Nobody waits for it any longer then.
    pub(super) until: Instant,
    /// Whether policies know the pod.
    pub(super) is_known: Arc<AtomicBool>,
    /// Is told when all is in force.
    pub(super) in_force: SyncSender<()>,
}

/// Those that wait. Whoever asks sees to it that they are not too many.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Claim>);

impl Waiting {
    /// One more waits.
    pub(super) fn add(&mut self, claim: Claim) {
        self.0.push(claim);
    }

    /// Tells the compiler of those that it was not told of, and that it knows by now. Whether there were any.
    pub(super) fn claim(&mut self, compiler: &mut Compiler, now: Instant) -> bool {
        self.0.retain(|claim| now < claim.until);
        let mut any = false;
        for claim in &self.0 {
            let Newcomer { pod, uid, addresses } = &claim.newcomer;
            if !claim.is_known.load(Ordering::Relaxed) && compiler.claim(pod, uid.as_deref(), addresses) {
                claim.is_known.store(true, Ordering::Relaxed);
                any = true;
            }
        }
        any
    }

    /// All is in force that the compiler knows.
    pub(super) fn let_in(&mut self) {
        self.0.retain(|claim| {
            let is_known = claim.is_known.load(Ordering::Relaxed);
            if is_known {
                // Whoever asked may have gone.
                let _ = claim.in_force.try_send(());
            }
            !is_known
        });
    }
}
