//! What policies left in the kernel and nobody wants there any more.

use std::thread;

use super::backend::Backend;

/// Takes away all that policies have in the kernel; whether there was anything.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn cleanup() -> anyhow::Result<bool> {
    let each = Backend::BOTH.map(Backend::cleanup);
    each.into_iter().try_fold(false, |any, removed| Ok(any | removed?))
}

/// Takes away what an earlier process enforced, on a thread of its own, which nobody waits for.
pub(crate) fn retire() {
    let work = || {
        tell(cleanup(), "NetworkPolicies are enforced no longer");
    };
    if let Err(error) = thread::Builder::new().name("policy-retirement".to_owned()).spawn(work) {
        tracing::warn!("what an earlier process made of NetworkPolicies stays in force: {error}");
    }
}

/// Takes away what another enforcer left, now that this one has all in force.
pub(super) fn retire_other(kept: Backend) {
    for other in Backend::BOTH.into_iter().filter(|other| *other != kept) {
        tell(other.cleanup(), &format!("NetworkPolicies are enforced by {kept} now"));
    }
}

fn tell(removed: anyhow::Result<bool>, why: &str) {
    match removed {
        Ok(true) => tracing::info!("{why}: removed the rules that an earlier process left"),
        Ok(false) => {}
        Err(error) => tracing::warn!("{why}, but the rules that an earlier process left stay: {error:#}"),
    }
}
