//! SIGTERM and SIGINT end the process cleanly, also when it is PID 1 and has no default for them.

use std::io;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::sync_loop::{Inbox, Input};

/// Watches for the signals on a thread of its own; the first one tells the sync loop to stop.
///
/// # Errors
/// When the handlers cannot be installed, or the thread not be started.
pub(crate) fn watch(inbox: Inbox) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            inbox.put(Input::Stop);
        }
    })?;
    Ok(())
}
