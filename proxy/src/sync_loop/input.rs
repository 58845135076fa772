//! What the sync loop is told besides objects.

use std::time::Duration;

use endpoint_cache::Update;
use modes::{Comparison, Disturbance, Settings};
use tokio::sync::oneshot;

use crate::event_loop;
use crate::view::View;

/// What the sync loop is told besides objects.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something may be otherwise than it was left.
    Disturbed(Disturbance),
    /// The user wants something else of the mode.
    Reconfigured(Box<Reconfiguration>),
    /// Somebody wants to know what is known of Services and endpoints.
    Ask(oneshot::Sender<View>),
    /// Somebody wants to know how the kernel differs from what should be there, or why that cannot be told.
    Compare(oneshot::Sender<Result<Comparison, String>>),
}

/// All that the sync loop is told.
pub(crate) type Input = event_loop::Input<Update, Message>;

/// Where the sync loop is told.
pub(crate) type Inbox = event_loop::Inbox<Update, Message>;

/// What the user wants otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Reconfiguration {
    /// What the mode is told, if it is something else.
    pub(crate) settings: Option<Settings>,
    /// Changes are programmed no sooner than this after the last ones.
    pub(crate) min_sync_period: Duration,
}
