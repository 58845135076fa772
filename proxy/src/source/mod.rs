//! Where objects come from: the seam between whatever knows the cluster and the sync loop.
//!
//! A source runs on a thread of its own and hands on [`Event`]s through a bounded channel, so that one which is faster
//! than the kernel waits instead of filling memory. It logs what only it understands (an unreadable file, a dropped
//! connection) and carries on; it gives up only over what it cannot recover from.

pub(crate) mod kubernetes;
pub mod manifests;

use std::io;
use std::thread;

use endpoint_cache::Update;

use crate::sync_loop::{Inbox, Input};

/// What a source tells the sync loop.
#[derive(Debug)]
pub enum Event {
    /// Objects to take in as one: they are programmed in one transaction. May be empty, which says that the source
    /// looked and found nothing new.
    Updates(Vec<Update>),
    /// Everything that was there at the start has been handed on. Nothing is programmed before this.
    Synced,
}

/// A place that objects come from.
pub trait Source: Send + 'static {
    /// Hands on what is there, [`Event::Synced`], and then every change, until `events` says that nobody listens any
    /// more.
    ///
    /// # Errors
    /// When it cannot go on. The process then ends, for its supervisor to start it afresh.
    fn run(self: Box<Self>, events: &Events) -> anyhow::Result<()>;
}

/// Where a source puts its events.
#[derive(Debug)]
pub struct Events(Inbox);

impl Events {
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self(inbox)
    }

    /// Hands on an event, waiting while the sync loop is behind. False when nobody listens any more.
    #[must_use]
    pub fn put(&self, event: Event) -> bool {
        self.0.put(Input::Event(event))
    }
}

impl Drop for Events {
    /// A source that panics must not leave a process behind that looks alive and follows nothing.
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.put(Input::Failed(anyhow::anyhow!("the source of objects panicked")));
        }
    }
}

/// Starts a source on a thread of its own.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(source: Box<dyn Source>, inbox: Inbox) -> io::Result<()> {
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        let events = Events::new(inbox);
        if let Err(error) = source.run(&events) {
            events.0.put(Input::Failed(error));
        }
    })?;
    Ok(())
}
