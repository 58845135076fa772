//! What other modes left goes: at once what can, and what carries connections when these have ended.

use std::thread;

use modes::ipvs::Leaving;

use crate::mode::{RetireOthers, Retired};

/// Takes away what other modes left.
pub(crate) fn retire(retire_others: RetireOthers) {
    match retire_others() {
        Ok(Retired { removed, leaving }) => {
            if removed > 0 {
                tracing::info!(removed, "removed what another mode or kube-proxy left");
            }
            if let Some(leaving) = leaving {
                leave_by_and_by(leaving);
            }
        }
        Err(error) => tracing::warn!("what another mode or kube-proxy left is still there: {error:#}"),
    }
}

/// On a thread of its own, which nobody waits for: if the process ends before, the next one goes on.
fn leave_by_and_by(mut leaving: Leaving) {
    let work = move || {
        loop {
            thread::sleep(Leaving::INTERVAL);
            match leaving.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!("what IPVS does not need any more is still there: {error}");
                }
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("leaving-ipvs".to_owned()).spawn(work) {
        tracing::warn!("what is left of ipvs mode stays until the next start: {error}");
    }
}
