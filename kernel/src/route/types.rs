//! Rules, routes and ways.

use std::fmt;
use std::net::IpAddr;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A rule that has a table of its own asked for packets with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Of which packets.
    pub family: Family,
    /// Order among rules; lower first. The kernel's own are 0, 32766 and 32767.
    pub priority: u32,
    /// What the bits of `mask` must be.
    pub mark: u32,
    /// Which bits of the packet mark count.
    pub mask: u32,
    /// Number of the table.
    pub table: u32,
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, mark, mask, table, .. } = self;
        write!(f, "{family} rule fwmark {mark:#x}/{mask:#x} lookup {table}")
    }
}

/// A route that has a table deliver every packet to this host, whatever its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    /// Of which packets.
    pub family: Family,
    /// Number of the table.
    pub table: u32,
    /// Index of the device; the loopback's, as a rule.
    pub link: u32,
}

impl fmt::Display for LocalRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, link } = self;
        write!(f, "{family} route local default dev {link} table {table}")
    }
}

/// A route by which packets to one address are delivered to this host, beside what the kernel has for an address of a
/// device, and after it. Only with such an address would this host take it as its source when it speaks to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRoute {
    /// Where packets go to.
    pub address: IpAddr,
    /// Index of the device; the loopback's, as a rule.
    pub link: u32,
    /// What this host takes as its source instead: one of its addresses. Of no matter when the route is removed.
    pub source: Option<IpAddr>,
}

impl fmt::Display for AddressRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, link, source } = self;
        write!(f, "route local {address} dev {link} table local")?;
        source.map_or(Ok(()), |source| write!(f, " src {source}"))
    }
}

/// Whether something is to be there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is made if it is not there.
    Add,
    /// It is removed if it is there.
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
        })
    }
}

/// The way that packets to an address take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether it leads to this host itself.
    pub local: bool,
    /// Whether it leads by way of a router; else the address is on the device's own link.
    pub gateway: bool,
    /// Index of the device.
    pub link: u32,
}
