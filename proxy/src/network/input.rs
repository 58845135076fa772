//! What the network loop is told, and the way there.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cni::network::{News, Update};

use crate::source::{Event, Listener};

/// Inputs that may wait while the kernel is at work. A source that is further ahead waits itself.
pub(super) const PENDING: usize = 256;

/// What the network loop is told.
#[derive(Debug)]
pub(super) enum Input {
    /// Something from the source.
    Event(Event<Update>),
    /// The source cannot go on.
    Failed(anyhow::Error),
    /// Somebody changed something in the kernel.
    News(News),
    /// BIRD has had the time to learn all there is, or it has not (again).
    Bird {
        /// Whether it has.
        settled: bool,
    },
    /// The loop is to end.
    Stop,
}

/// Where inputs are put.
#[derive(Clone, Debug)]
pub(super) struct Inbox(SyncSender<Input>);

impl Inbox {
    /// Hands on an input, waiting while too many are pending. False when the loop is gone.
    pub(super) fn put(&self, input: Input) -> bool {
        self.0.send(input).is_ok()
    }

    /// Hands on an input if there is room. Never waits.
    pub(super) fn offer(&self, input: Input) -> bool {
        self.0.try_send(input).is_ok()
    }
}

impl Listener<Update> for Inbox {
    fn take(&self, event: Event<Update>) -> bool {
        self.put(Input::Event(event))
    }

    fn source_failed(&self, error: anyhow::Error) {
        self.put(Input::Failed(error));
    }
}

/// Makes the bounded channel that feeds a network loop.
pub(super) fn channel() -> (Inbox, Receiver<Input>) {
    let (sender, receiver) = sync_channel(PENDING);
    (Inbox(sender), receiver)
}
