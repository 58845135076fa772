//! Changes that others make to what is enforced are heard of on a thread of its own.

use std::thread;

use anyhow::Context;
use policy::Watch;

use super::input::{Inbox, Input};

/// Listens from now on.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn watch(mut watch: Box<dyn Watch>, inbox: Inbox) -> anyhow::Result<()> {
    let listen = move || {
        let error = loop {
            match watch.next_damage() {
                Ok(what) => {
                    if !inbox.put(Input::Damaged(what)) {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        tracing::warn!("changes that others make to policies' rules are not noticed any longer: {error}");
    };
    thread::Builder::new().name("policy-damage".to_owned()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}
