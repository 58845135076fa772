//! Where objects come from: the seam between whatever knows the cluster and the loops that program the node.
//!
//! A source runs on a thread of its own and hands on [`Event`]s through a bounded channel, so that one which is faster
//! than the kernel waits instead of filling memory. It logs what only it understands (an unreadable file, a dropped
//! connection) and carries on; it gives up only over what it cannot recover from. It is asked for the objects of one
//! [`Vocabulary`].

pub(crate) mod kubernetes;
pub(crate) mod manifests;
mod vocabulary;

use std::io;
use std::thread;

pub(crate) use vocabulary::{Text, Vocabulary};

/// What a source tells its listener.
#[derive(Debug)]
pub(crate) enum Event<U> {
    /// Objects to take in as one: they are programmed in one transaction. May be empty, which says that the source
    /// looked and found nothing new.
    Updates(Vec<U>),
    /// Everything that was there at the start has been handed on. Nothing is programmed before this.
    Synced,
}

/// A place that objects come from.
pub(crate) trait Source<U: 'static>: Send + 'static {
    /// Hands on what is there, [`Event::Synced`], and then every change, until `events` says that nobody listens any
    /// more.
    ///
    /// # Errors
    /// When it cannot go on. The process then ends, for its supervisor to start it afresh.
    fn run(self: Box<Self>, events: &Events<U>) -> anyhow::Result<()>;
}

/// Whom a source tells.
pub(crate) trait Listener<U>: Send + 'static {
    /// Takes an event, waiting while too much is pending. False when it listens no longer.
    fn take(&self, event: Event<U>) -> bool;

    /// The source cannot go on.
    fn source_failed(&self, error: anyhow::Error);
}

/// Where a source puts its events.
pub(crate) struct Events<U: 'static>(Box<dyn Listener<U>>);

impl<U: 'static> Events<U> {
    pub(crate) fn new(listener: impl Listener<U>) -> Self {
        Self(Box::new(listener))
    }

    /// Hands on an event, waiting while the listener is behind. False when nobody listens any more.
    #[must_use]
    pub(crate) fn put(&self, event: Event<U>) -> bool {
        self.0.take(event)
    }
}

impl<U: 'static> Drop for Events<U> {
    /// A source that panics must not leave a process behind that looks alive and follows nothing.
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.source_failed(anyhow::anyhow!("the source of objects panicked"));
        }
    }
}

/// Starts a source on a thread of its own, of this name.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start<U: 'static>(
    name: &str,
    source: Box<dyn Source<U>>,
    listener: impl Listener<U>,
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let events = Events::new(listener);
        if let Err(error) = source.run(&events) {
            events.0.source_failed(error);
        }
    })?;
    Ok(())
}
