//! Devices and addresses.

use std::fmt;
use std::net::IpAddr;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number that the kernel knows it by.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// What made it: `dummy`, `veth`, `bridge`. `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Whether it was brought up, with or without a carrier.
    pub up: bool,
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
