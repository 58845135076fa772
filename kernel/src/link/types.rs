//! Devices and addresses.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;

use crate::Mac;

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The number that the kernel knows it by.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// What made it: `dummy`, `veth`, `bridge`. `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Whether it was brought up, with or without a carrier.
    pub up: bool,
    /// Whether it carries packets now: it is up, has a carrier, and the kernel has taken notice of that.
    pub operating: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Its hardware address, if it has one of Ethernet.
    pub mac: Option<Mac>,
    /// Index of the bridge that it is a port of, or of what else it belongs to.
    pub master: Option<u32>,
    /// Of a veth, the index of its other end in that one's network namespace; else of the device it sits on.
    pub peer: Option<u32>,
    /// A text for people.
    pub alias: Option<String>,
    /// Whether it was told to take in everything.
    pub promiscuous: bool,
    /// How it stands with it as a port of a bridge.
    pub port: Option<Port>,
}

/// A device as a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Whether frames pass.
    pub forwarding: bool,
    /// Whether frames may leave by where they came in.
    pub hairpin: bool,
}

/// One end of a veth pair that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes of the largest packet; the kernel's 1500 if it is not said.
    pub mtu: Option<u32>,
    /// Its hardware address. A device that is given one keeps it: what it was made with at random is taken by udev as
    /// something to be replaced.
    pub mac: Mac,
}

/// A bridge that is to be made: as the kernel makes them, so it filters no VLANs and knows no spanning tree, and ports
/// forward from the first moment.
#[derive(Clone, Copy, Debug)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes of the largest packet; the smallest of its ports' if it is not said.
    pub mtu: Option<u32>,
    /// Its hardware address. Without one of its own, a bridge takes the lowest of its ports', and so changes it as they
    /// come and go: everybody who knew it sends to nobody for a while.
    pub mac: Mac,
}

/// What is to change about a device; what is not said stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Brings it up or down.
    pub up: Option<bool>,
    /// Whether it takes in everything.
    pub promiscuous: Option<bool>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Index of the bridge that it becomes a port of; 0 to leave.
    pub master: Option<u32>,
    /// Its name. Before Linux 6.2 only of a device that is down.
    pub name: Option<&'a str>,
    /// A text for people, at most 255 bytes.
    pub alias: Option<&'a str>,
    /// It gets no link-local IPv6 address of its own when it comes up.
    pub no_link_local: bool,
    /// The network namespace that it moves to, where it may have another index.
    pub netns: Option<BorrowedFd<'a>>,
}

/// An address that a device is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Index of the device.
    pub link: u32,
    /// The address, with the length of its prefix.
    pub address: IpNet,
    /// Whether the prefix is on the same link, so that there is a route to it.
    pub on_link: bool,
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add address {} to device {}", self.address, self.link)
    }
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the device.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix that is on the same link.
    pub prefix: u8,
    /// Whether it means something on its link only: IPv6's link-local addresses, and what was given scope link.
    pub link_local_scope: bool,
}

/// A change of a device's addresses: one with a prefix of its own, /32 or /128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEdit {
    /// Index of the device.
    pub link: u32,
    /// Whether the address is added, else it is removed.
    pub add: bool,
    /// The address.
    pub address: IpAddr,
}

impl fmt::Display for AddressEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, preposition) = if self.add { ("add", "to") } else { ("remove", "from") };
        write!(f, "{verb} address {} {preposition} device {}", self.address, self.link)
    }
}
