//! Hearing of packets that are traced and of connections, in the order in which things happen to them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;
use crate::conntrack::{FlowEvent, event};
use crate::netlink::{Message, Notifications, Protocol, Received};
use crate::nft::{TraceStep, trace};

/// Hears what becomes of traced packets, whoever has them traced, and of all connections of the network namespace that
/// the process is in.
pub struct Follower {
    notifications: Notifications,
    heard: VecDeque<News>,
}

/// What it heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A traced packet met something.
    Step(TraceStep),
    /// A connection came, changed or went.
    Flow(FlowEvent),
    /// The kernel had to drop some news.
    Lost,
}

impl Follower {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        let [new, update, destroy] = event::GROUPS;
        // One socket for both, which keeps their order.
        let groups = [trace::GROUP, new, update, destroy];
        let notifications = Notifications::open(Protocol::Netfilter, &groups, None)?;
        Ok(Self { notifications, heard: VecDeque::new() })
    }

    /// The next news, without waiting; `None` if there are none yet.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    pub fn next_now(&mut self) -> Result<Option<News>, Error> {
        while self.heard.is_empty() {
            let heard = &mut self.heard;
            let received = self.notifications.receive_now("packets and connections", |message| {
                heard.extend(news(message));
            })?;
            match received {
                Received::All => {}
                Received::NotAll => heard.push_back(News::Lost),
                Received::Nothing => return Ok(None),
            }
        }
        Ok(self.heard.pop_front())
    }
}

impl AsFd for Follower {
    /// To wait at for something to be heard.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

fn news(message: &Message<'_>) -> Option<News> {
    TraceStep::decode(message).map(News::Step).or_else(|| FlowEvent::decode(message).map(News::Flow))
}
