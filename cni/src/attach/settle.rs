//! Waiting for what the kernel does later, by workers. It takes some ten to some hundred microseconds, so it is asked
//! again rather than listened to: that takes no longer than to open a socket to listen by.

use std::thread;
use std::time::{Duration, Instant};

use super::Error;

/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked before there is a pause between one time and the next.
const AT_ONCE: u32 = 20;
const PAUSE: Duration = Duration::from_micros(500);

/// Asks until something is so.
pub(super) fn until(
    what: impl Fn() -> String,
    mut is_so: impl FnMut() -> Result<bool, kernel::Error>,
) -> Result<(), Error> {
    let since = Instant::now();
    let mut asked = 0;
    while !is_so()? {
        if since.elapsed() > PATIENCE {
            return Err(Error::Unsettled(what(), PATIENCE.as_secs()));
        }
        asked += 1;
        if asked > AT_ONCE { thread::sleep(PAUSE) } else { thread::yield_now() }
    }
    Ok(())
}
