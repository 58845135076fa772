//! What the sync loop is told, and the way there.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use endpoint_cache::Update;
use modes::{Comparison, Disturbance, Settings};
use tokio::sync::oneshot;

use crate::source::{Event, Listener};
use crate::view::View;

/// Inputs that may wait while a transaction is in flight. A source that is further ahead waits itself.
pub(super) const PENDING: usize = 256;

/// What the sync loop is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something from the source.
    Event(Event<Update>),
    /// The source cannot go on.
    Failed(anyhow::Error),
    /// Something may be otherwise than it was left.
    Disturbed(Disturbance),
    /// The user wants something else of the mode.
    Reconfigured(Box<Reconfiguration>),
    /// Somebody wants to know what is known of Services and endpoints.
    Ask(oneshot::Sender<View>),
    /// Somebody wants to know how the kernel differs from what should be there, or why that cannot be told.
    Compare(oneshot::Sender<Result<Comparison, String>>),
    /// The process is to end.
    Stop,
}

/// What the user wants otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Reconfiguration {
    /// What the mode is told, if it is something else.
    pub(crate) settings: Option<Settings>,
    /// Changes are programmed no sooner than this after the last ones.
    pub(crate) min_sync_period: Duration,
}

/// Where inputs are put.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(SyncSender<Input>);

impl Inbox {
    /// Hands on an input, waiting while too many are pending. False when the sync loop is gone.
    pub(crate) fn put(&self, input: Input) -> bool {
        self.0.send(input).is_ok()
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

/// Makes the bounded channel that feeds a sync loop.
pub(crate) fn channel() -> (Inbox, Receiver<Input>) {
    let (sender, receiver) = sync_channel(PENDING);
    (Inbox(sender), receiver)
}
