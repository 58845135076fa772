//! What other modes left goes: at once what can, and what carries connections when these have ended.

use std::thread;

use modes::ipvs::Leaving;

use crate::mode::{RetireOthers, Retired};

/// Takes away what other modes left. What cannot go yet goes later, on a thread of its own, which nobody waits for: if the
/// process ends before, the next one goes on.
pub(crate) fn retire(retire_others: RetireOthers) {
    let work: Box<dyn FnOnce() + Send> = match attempt(&retire_others) {
        Some(None) => return,
        Some(Some(leaving)) => Box::new(move || leave_by_and_by(leaving)),
        None => Box::new(move || retire_at_last(&retire_others)),
    };
    if let Err(error) = thread::Builder::new().name("retirement".to_owned()).spawn(work) {
        tracing::warn!("what another mode left stays until the next start: {error}");
    }
}

/// `None` when it is to be tried again; else what stays for a while, if anything does.
fn attempt(retire_others: &RetireOthers) -> Option<Option<Leaving>> {
    match retire_others() {
        Ok(Retired { removed, leaving }) => {
            if removed > 0 {
                tracing::info!(removed, "removed what another mode or kube-proxy left");
            }
            Some(leaving)
        }
        Err(error) => {
            tracing::warn!("what another mode or kube-proxy left is still there: {error:#}");
            None
        }
    }
}

fn retire_at_last(retire_others: &RetireOthers) {
    loop {
        thread::sleep(Leaving::INTERVAL);
        match attempt(retire_others) {
            Some(None) => return,
            Some(Some(leaving)) => return leave_by_and_by(leaving),
            None => {}
        }
    }
}

fn leave_by_and_by(mut leaving: Leaving) {
    loop {
        thread::sleep(Leaving::INTERVAL);
        match leaving.step() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!("what IPVS does not need any more is still there: {error}"),
        }
    }
}
