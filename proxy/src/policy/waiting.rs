//! New pods that wait until what policies ask about them is in force.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use endpoint_cache::object::ObjectName;
use policy::Compiler;

/// A pod that waits.
#[derive(Debug)]
pub(super) struct Claim {
    /// The pod.
    pub(super) pod: ObjectName,
    /// The addresses that it has been given.
    pub(super) addresses: Vec<IpAddr>,
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
            if !claim.is_known.load(Ordering::Relaxed) && compiler.claim(&claim.pod, &claim.addresses) {
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
