//! What the policy loop is told, and the way there.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use policy::Update;
use tokio::sync::oneshot;

use super::denials::Denial;
use super::view::PolicyView;
use super::waiting::Claim;
use crate::source::{Event, Listener};

/// Inputs that may wait while a transaction is in flight. A source that is further ahead waits itself.
pub(super) const PENDING: usize = 256;

/// What the policy loop is told.
#[derive(Debug)]
pub(super) enum Input {
    /// Something from the source.
    Event(Event<Update>),
    /// The source cannot go on.
    Failed(anyhow::Error),
    /// Somebody changed what is in force: who changed what, in words.
    Damaged(String),
    /// A packet was denied.
    Denied(Denial),
    /// Somebody wants to know all that is known.
    Ask(oneshot::Sender<Result<PolicyView, String>>),
    /// A new pod waits for its policies.
    Claimed(Claim),
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
    pub(super) fn offer(&self, input: Input) -> Offered {
        match self.0.try_send(input) {
            Ok(()) => Offered::Taken,
            Err(TrySendError::Full(_)) => Offered::Full,
            Err(TrySendError::Disconnected(_)) => Offered::Gone,
        }
    }
}

/// What became of an input that may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is taken.
    Taken,
    /// Too many are pending.
    Full,
    /// The loop is gone.
    Gone,
}

impl Listener<Update> for Inbox {
    fn take(&self, event: Event<Update>) -> bool {
        self.put(Input::Event(event))
    }

    fn source_failed(&self, error: anyhow::Error) {
        self.put(Input::Failed(error));
    }
}

/// Makes the bounded channel that feeds a policy loop.
pub(super) fn channel() -> (Inbox, Receiver<Input>) {
    let (sender, receiver) = sync_channel(PENDING);
    (Inbox(sender), receiver)
}
