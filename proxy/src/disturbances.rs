//! Changes that others make to what we programmed, and to the node, are heard of on a thread of its own.

use std::fmt::Display;
use std::thread;

use anyhow::Context;
use modes::Mode;

use crate::sync_loop::{Inbox, Message};

/// Listens from now on.
///
/// # Errors
/// When the kernel cannot be listened to, or the thread not be started.
pub(crate) fn watch(mode: &mut dyn Mode, inbox: Inbox) -> anyhow::Result<()> {
    let mut watch = mode.watch()?;
    let missed = "changes that others make are not noticed any longer";
    listen(
        "disturbances",
        missed,
        move || watch.next_disturbance(),
        move |why| inbox.tell(Message::Disturbed(why)),
    )
}

/// Hands on what comes `next`, on a thread of its own, until nobody takes it any more, or there is no more to be heard: then
/// the log tells what is `missed`.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn listen<T, E: Display>(
    name: &str,
    missed: &'static str,
    mut next: impl FnMut() -> Result<T, E> + Send + 'static,
    hand_on: impl Fn(T) -> bool + Send + 'static,
) -> anyhow::Result<()> {
    let listening = move || {
        let error = loop {
            match next() {
                Ok(heard) => {
                    if !hand_on(heard) {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        tracing::warn!("{missed}: {error}");
    };
    thread::Builder::new().name(name.to_owned()).spawn(listening).context("cannot start a thread")?;
    Ok(())
}
