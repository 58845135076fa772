//! What the network loop is told besides Nodes.

use cni::network::{News, Update};

use crate::event_loop;

/// What the network loop is told besides Nodes.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody changed something in the kernel.
    News(News),
    /// BIRD has had the time to learn all there is, or it has not (again).
    Bird {
        /// Whether it has.
        settled: bool,
    },
}

/// All that the network loop is told.
pub(super) type Input = event_loop::Input<Update, Message>;

/// Where the network loop is told.
pub(super) type Inbox = event_loop::Inbox<Update, Message>;
