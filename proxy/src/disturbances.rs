//! Changes that others make to what we programmed, and to the node, are heard of on a thread of its own.

use std::thread;

use anyhow::Context;
use modes::Mode;

use crate::sync_loop::{Inbox, Input};

/// Listens from now on.
///
/// # Errors
/// When the kernel cannot be listened to, or the thread not be started.
pub(crate) fn watch(mode: &mut dyn Mode, inbox: Inbox) -> anyhow::Result<()> {
    let mut watch = mode.watch()?;
    let listen = move || {
        let error = loop {
            match watch.next_disturbance() {
                Ok(why) => {
                    if !inbox.put(Input::Disturbed(why)) {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        tracing::warn!("changes that others make are not noticed any longer: {error}");
    };
    thread::Builder::new().name("disturbances".to_owned()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}
