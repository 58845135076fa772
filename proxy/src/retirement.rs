//! What other modes left goes: at once what can, and what carries connections when these have ended.

use std::thread;
use std::time::Duration;

use modes::ipvs::Leaving;

use crate::backoff::Backoff;
use crate::mode::{RetireOthers, Retired};

/// Between attempts to take away what is held by somebody.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Takes away what other modes left, on a thread of its own, which nobody waits for: if the process ends before, the next
/// one goes on.
pub(crate) fn retire(retire_others: RetireOthers) {
    let work = move || {
        let mut told = Told::default();
        if let Some(leaving) = take_away(&retire_others, &mut told) {
            leave_by_and_by(leaving, &mut told);
        }
    };
    if let Err(error) = thread::Builder::new().name("retirement".to_owned()).spawn(work) {
        tracing::warn!("what another mode left stays until the next start: {error}");
    }
}

/// Tries until it can; returns what stays of IPVS for a while.
fn take_away(retire_others: &RetireOthers, told: &mut Told) -> Option<Leaving> {
    let mut backoff = Backoff::steady(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match retire_others() {
            Ok(Retired { removed, leaving }) => {
                if removed > 0 {
                    tracing::info!(removed, "removed what another mode or kube-proxy left");
                }
                return leaving;
            }
            Err(error) => {
                told.warn(format!("what another mode or kube-proxy left is still there: {error:#}"));
                thread::sleep(backoff.next_wait());
            }
        }
    }
}

fn leave_by_and_by(mut leaving: Leaving, told: &mut Told) {
    loop {
        thread::sleep(Leaving::INTERVAL);
        match leaving.step() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => told.warn(format!("what IPVS does not need any more is still there: {error}")),
        }
    }
}

/// The last warning: the same again is no news.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn warn(&mut self, text: String) {
        if self.0.as_ref() != Some(&text) {
            tracing::warn!("{text}");
            self.0 = Some(text);
        }
    }
}
