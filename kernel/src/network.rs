//! Hearing of devices, addresses, routes and neighbours that come, change and go, whoever does it.
//!
//! The kernel says whose routes are, but not who changed forwarding entries and IPv6 addresses: a listener hears of its own
//! changes too, and has to know what it wants to be there. Routes that go with their device are not told of one by one (for
//! IPv4, not at all).

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::Error;
use crate::link::{self, Link};
use crate::neighbour::{self, Forwarding, Neighbour};
use crate::netlink::{Message, Notifications, Protocol};
use crate::route::{self, Route};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_IFADDR`,
/// `RTNLGRP_IPV6_ROUTE`
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;

/// Hears of what happens in the network namespace that the process is in.
pub struct NetworkMonitor {
    notifications: Notifications,
    heard: VecDeque<NetworkNews>,
}

/// What a [`NetworkMonitor`] heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkNews {
    /// Something is there: it is new, or changed.
    Is(Thing),
    /// Something is gone.
    Gone(Thing),
    /// The kernel had to drop some news: anything may have been among them.
    Lost,
}

/// What there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A device.
    Link(Box<Link>),
    /// An address of a device.
    Address {
        /// Index of the device.
        link: u32,
        /// The address.
        address: IpAddr,
    },
    /// A route.
    Route(Box<Route>),
    /// Who has an address.
    Neighbour(Neighbour),
    /// Where a VXLAN device sends frames to.
    Forwarding(Forwarding),
}

impl NetworkMonitor {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        let notifications = Notifications::open(Protocol::Route, &GROUPS, None)?;
        Ok(Self { notifications, heard: VecDeque::new() })
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and fails")]
    pub fn next(&mut self) -> Result<NetworkNews, Error> {
        loop {
            if let Some(news) = self.heard.pop_front() {
                return Ok(news);
            }
            let heard = &mut self.heard;
            if !self.notifications.receive("changes of the network", |message| heard.extend(news(message)))? {
                return Ok(NetworkNews::Lost);
            }
        }
    }
}

fn news(message: &Message<'_>) -> Option<NetworkNews> {
    let thing = match message.kind {
        NEWLINK | DELLINK => Thing::Link(Box::new(link::read_link(message)?)),
        NEWADDR | DELADDR => {
            let found = link::read_address(message)?;
            Thing::Address { link: found.link, address: found.address }
        }
        NEWROUTE | DELROUTE => Thing::Route(Box::new(route::read_route(message)?)),
        NEWNEIGH | DELNEIGH => neighbour::read_forwarding(message)
            .map(Thing::Forwarding)
            .or_else(|| neighbour::read_neighbour(message).map(Thing::Neighbour))?,
        _ => return None,
    };
    let gone = matches!(message.kind, DELLINK | DELADDR | DELROUTE | DELNEIGH);
    Some(if gone { NetworkNews::Gone(thing) } else { NetworkNews::Is(thing) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 16..30_u16) {
            let _ = news(&Message { kind, flags: 0, sequence: 0, port: 0, payload: &bytes });
        }
    }
}
