//! Routes of any kind that we make.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// `RT_TABLE_MAIN`: the table that is asked when no rule says otherwise.
pub const MAIN: u32 = 254;

/// A route with one way to go, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where packets go to.
    pub destination: IpNet,
    /// The router, which may be of IPv6 for a destination of IPv4; `None` if the destination is on the device's link.
    pub gateway: Option<IpAddr>,
    /// Whether the router is taken to be on the device's link, whatever the device's addresses.
    pub onlink: bool,
    /// Index of the device. 0: there is no way, and who sends a packet is told so (`unreachable`).
    pub link: u32,
    /// What this host takes as its source, if it has the choice.
    pub source: Option<IpAddr>,
    /// Number of the table, see [`MAIN`].
    pub table: u32,
    /// Who made it (`rtm_protocol`, see `/etc/iproute2/rt_protos`).
    pub protocol: u8,
    /// How far away the destination is. IPv6 has only [`Scope::Universe`].
    pub scope: Scope,
    /// Which of several routes to a destination is taken: the one with the least. `None`: the kernel's default, which is
    /// 0 for IPv4 and 1024 for IPv6.
    pub metric: Option<u32>,
    /// Bytes of the largest packet, if not the device's.
    pub mtu: Option<u32>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, link, protocol, .. } = self;
        if *link == 0 {
            write!(f, "route unreachable {destination}")?;
        } else {
            write!(f, "route {destination}")?;
            self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))?;
            write!(f, " dev {link}")?;
        }
        if self.table != MAIN {
            write!(f, " table {}", self.table)?;
        }
        write!(f, " proto {protocol}")
    }
}

/// How far away a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Beyond a router.
    Universe,
    /// On a device's link.
    Link,
}

/// A change of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteEdit {
    /// It is made. If there is one to the destination with this metric, whoever made it, nothing happens.
    Add(Route),
    /// The same, but if there is one, that is a refusal (`EEXIST`).
    Create(Route),
    /// It is made, instead of the one to the destination with this metric, whoever made that. A packet that has just found
    /// the old one and sees that it is dead looks no further, and finds no route: with IPv4 any packet, with IPv6 only one
    /// that is the first to use it on its processor.
    Replace(Route),
    /// It is made beside those to the destination with this metric, and taken when they are gone: [`Self::Remove`] of those
    /// is to follow, and no packet finds none. For IPv4; IPv6 would share packets out among them.
    Append(Route),
    /// It is removed if it is there: the one with this destination, metric, protocol, device and router.
    Remove(Route),
}

impl RouteEdit {
    /// The route that it is about.
    #[must_use]
    pub fn route(&self) -> &Route {
        match self {
            Self::Add(route)
            | Self::Create(route)
            | Self::Replace(route)
            | Self::Append(route)
            | Self::Remove(route) => route,
        }
    }
}

impl fmt::Display for RouteEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Add(_) | Self::Create(_) => "add",
            Self::Replace(_) => "replace",
            Self::Append(_) => "append",
            Self::Remove(_) => "remove",
        };
        write!(f, "{verb} {}", self.route())
    }
}
