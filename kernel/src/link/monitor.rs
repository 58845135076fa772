//! Hearing of addresses that come and go.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::read;
use super::uapi::{DELADDR, DELLINK, GROUPS, NEWADDR};
use crate::Error;
use crate::netlink::{Message, Notifications, Protocol};

/// Hears of addresses that come and go and of devices that go, leaving out what a connection of ours caused. The kernel
/// does not say who changed an IPv6 address: those are heard of whoever it was.
pub struct AddressMonitor {
    notifications: Notifications,
    heard: VecDeque<AddressNews>,
}

/// What the monitor heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressNews {
    /// A device has an address. It may have had it before: its flags or lifetimes changed then.
    Came {
        /// Index of the device.
        link: u32,
        /// The address.
        address: IpAddr,
    },
    /// A device lost an address.
    Went {
        /// Index of the device.
        link: u32,
        /// The address.
        address: IpAddr,
    },
    /// A device is gone, and its addresses with it.
    LinkWent {
        /// Its index.
        link: u32,
        /// Its name.
        name: String,
    },
    /// The kernel had to drop some news: anything may have been among them.
    Lost,
}

impl AddressMonitor {
    /// Starts to listen. Changes made through the connection whose port this is are not reported, as far as the kernel
    /// says whose they are.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open(own_port: Option<u32>) -> Result<Self, Error> {
        let notifications = Notifications::open(Protocol::Route, &GROUPS, own_port)?;
        Ok(Self { notifications, heard: VecDeque::new() })
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and fails")]
    pub fn next(&mut self) -> Result<AddressNews, Error> {
        loop {
            if let Some(news) = self.heard.pop_front() {
                return Ok(news);
            }
            let heard = &mut self.heard;
            if !self.notifications.receive("changes of addresses", |message| heard.extend(news(message)))? {
                return Ok(AddressNews::Lost);
            }
        }
    }
}

fn news(message: &Message<'_>) -> Option<AddressNews> {
    match message.kind {
        NEWADDR => read::address(message)
            .map(|address| AddressNews::Came { link: address.link, address: address.address }),
        DELADDR => read::address(message)
            .map(|address| AddressNews::Went { link: address.link, address: address.address }),
        DELLINK => {
            read::link(message).map(|link| AddressNews::LinkWent { link: link.index, name: link.name })
        }
        _ => None,
    }
}
