//! SIGTERM and SIGINT end the process cleanly, also when it is PID 1 and has no default for them; a second one at once.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Of a process that was not let finish.
const INTERRUPTED: i32 = 1;

/// Watches for the signals on a thread of its own; the first one has `stop` done, the second one ends the
/// process whatever it does: the rules stay as they are.
///
/// # Errors
/// When the handlers cannot be installed, or the thread not be started.
pub(crate) fn watch(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        // It may wait for a place in an inbox, and a second signal must not wait for that.
        let told = thread::Builder::new().name("stopping".to_owned()).spawn(stop);
        if told.is_ok() {
            signals.next();
            tracing::warn!("told again to stop: ending at once");
        }
        process::exit(INTERRUPTED);
    })?;
    Ok(())
}
