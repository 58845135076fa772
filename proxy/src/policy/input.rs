//! What the policy loop is told besides objects.

use policy::Update;
use tokio::sync::oneshot;

use super::denials::Denial;
use super::view::PolicyView;
use super::waiting::Claim;
use crate::event_loop;

/// What the policy loop is told besides objects.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody changed what is in force: who changed what, in words.
    Damaged(String),
    /// A packet was denied.
    Denied(Denial),
    /// Somebody wants to know all that is known.
    Ask(oneshot::Sender<Result<PolicyView, String>>),
    /// A new pod waits for its policies.
    Claimed(Claim),
}

/// All that the policy loop is told.
pub(super) type Input = event_loop::Input<Update, Message>;

/// Where the policy loop is told.
pub(super) type Inbox = event_loop::Inbox<Update, Message>;
