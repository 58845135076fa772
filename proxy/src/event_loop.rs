//! What the loops of the proxy, of policies and of the pod network have in common: how they are told of things, and how
//! they take turns between that and what is due.
//!
//! Each runs on one thread, which alone owns its model and its side of the kernel. What an earlier process left stays in
//! force until all is known that the source has.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::backoff::Backoff;
use crate::source::{Event, Listener};

/// How long after a repair the next one may follow: whoever keeps changing what is ours must not keep us busy.
pub(crate) const BETWEEN_REPAIRS: Duration = Duration::from_millis(500);

/// What is told of a difference that was found without news of it.
pub(crate) const UNSEEN: &str = "somebody changed something, which was found when all was compared";

/// Waits after failures in a row, from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Inputs that may wait while a transaction is in flight. A source that is further ahead waits itself.
const PENDING: usize = 256;

/// How long a loop waits before it tries again what has failed.
pub(crate) fn backoff() -> Backoff {
    Backoff::steady(FIRST_WAIT, LONGEST_WAIT)
}

/// What a loop is told: updates `U` from its source, and messages `M` of its own kind.
#[derive(Debug)]
pub(crate) enum Input<U, M> {
    /// Something from the source.
    Event(Event<U>),
    /// The source, or something else that the process cannot do without, cannot go on.
    Failed(anyhow::Error),
    /// Something else.
    Message(M),
    /// The loop is to end.
    Stop,
}

/// Where a loop is told.
#[derive(Debug)]
pub(crate) struct Inbox<U, M>(SyncSender<Input<U, M>>);

impl<U, M> Clone for Inbox<U, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<U, M> Inbox<U, M> {
    /// Hands on an input, waiting while too many are pending. False when the loop is gone.
    pub(crate) fn put(&self, input: Input<U, M>) -> bool {
        self.0.send(input).is_ok()
    }

    /// Hands on a message, as [`Self::put`].
    pub(crate) fn tell(&self, message: M) -> bool {
        self.put(Input::Message(message))
    }

    /// Hands on a message if there is room. Never waits.
    pub(crate) fn offer(&self, message: M) -> Offered {
        match self.0.try_send(Input::Message(message)) {
            Ok(()) => Offered::Taken,
            Err(TrySendError::Full(_)) => Offered::Full,
            Err(TrySendError::Disconnected(_)) => Offered::Gone,
        }
    }

    /// Has the process end, since something failed.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        self.put(Input::Failed(error));
    }

    /// Has the loop end.
    pub(crate) fn stop(&self) {
        self.put(Input::Stop);
    }
}

/// What became of a message that may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is taken.
    Taken,
    /// Too many are pending.
    Full,
    /// The loop is gone.
    Gone,
}

impl<U: Send + 'static, M: Send + 'static> Listener<U> for Inbox<U, M> {
    fn take(&self, event: Event<U>) -> bool {
        self.put(Input::Event(event))
    }

    fn source_failed(&self, error: anyhow::Error) {
        self.fail(error);
    }
}

/// Makes the bounded channel that feeds a loop.
pub(crate) fn channel<U, M>() -> (Inbox<U, M>, Receiver<Input<U, M>>) {
    let (sender, receiver) = sync_channel(PENDING);
    (Inbox(sender), receiver)
}

/// A loop: objects in, what the kernel is to hold out.
pub(crate) trait EventLoop {
    /// What its source hands on.
    type Update;
    /// What else it is told.
    type Message;

    /// Does what is due at `now`; returns how long until something else is, if nothing arrives before.
    fn turn(&mut self, now: Instant) -> Option<Duration>;

    /// Takes an event in; programs nothing.
    fn take(&mut self, event: Event<Self::Update>, now: Instant);

    /// Hears a message. Breaks off when the loop is to end.
    fn hear(&mut self, message: Self::Message, now: Instant) -> ControlFlow<()>;

    /// Whether everything was once in the kernel.
    fn has_synced(&self) -> bool;

    /// Does what waits for the first sync; changes that others make are put into the inbox from now on.
    fn after_first_sync(&mut self, inbox: Inbox<Self::Update, Self::Message>);
}

/// Runs a loop until it is told to stop.
///
/// # Errors
/// When the source cannot go on.
pub(crate) fn run<L: EventLoop>(
    event_loop: &mut L,
    inbox: Inbox<L::Update, L::Message>,
    inputs: &Receiver<Input<L::Update, L::Message>>,
) -> anyhow::Result<()> {
    let mut inbox = Some(inbox);
    loop {
        let wait = event_loop.turn(Instant::now());
        if event_loop.has_synced()
            && let Some(inbox) = inbox.take()
        {
            event_loop.after_first_sync(inbox);
            // Something may be due by that.
            continue;
        }
        let first = match wait {
            Some(wait) => inputs.recv_timeout(wait),
            None => inputs.recv().map_err(RecvTimeoutError::from),
        };
        let first = match first {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // Everything that is pending goes into the same transaction, up to a bound so that one comes at all.
        for input in std::iter::once(first).chain(inputs.try_iter().take(PENDING)) {
            match input {
                Input::Event(event) => event_loop.take(event, Instant::now()),
                Input::Failed(error) => return Err(error),
                Input::Message(message) => {
                    if event_loop.hear(message, Instant::now()).is_break() {
                        return Ok(());
                    }
                }
                Input::Stop => return Ok(()),
            }
        }
    }
}

/// A loop that runs on a thread of its own.
pub(crate) struct Running<U, M> {
    name: &'static str,
    inbox: Inbox<U, M>,
    thread: JoinHandle<()>,
}

impl<U, M> Running<U, M> {
    /// Begins the work of the loop that has this inbox. If that cannot go on, `failed` is told why.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        name: &'static str,
        inbox: Inbox<U, M>,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
        failed: impl FnOnce(anyhow::Error) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let work = move || work().unwrap_or_else(failed);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        Ok(Self { name, inbox, thread: thread.context("cannot start a thread")? })
    }

    /// Ends the work, after a transaction that is under way. What is in force stays.
    pub(crate) fn stop(self) {
        self.inbox.stop();
        if self.thread.join().is_err() {
            tracing::error!("the {} loop panicked", self.name);
        }
    }
}
