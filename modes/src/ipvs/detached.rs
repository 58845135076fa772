//! Addresses of virtual servers without our device: packets to them are for this node all the same, but the node itself does
//! not take them as its own.
//!
//! What connects to an address of its own has it as its source too. In this mode that is masqueraded. Other modes do not
//! expect it: without local detection they would let it go out to an endpoint elsewhere, and the answer would never come.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::ipset::Entry;
use kernel::link::Links;
use kernel::route::{AddressRoute, Change, Routes, source_towards};

use crate::Error;

const LOOPBACK: &str = "lo";

/// Addresses for documentation (RFC 5737, RFC 3849): what is spoken to from where the default route says.
const ANYBODY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The way to make and remove them.
pub(super) struct Detached {
    routes: Routes,
    link: u32,
}

impl Detached {
    pub(super) fn open(links: &mut Links) -> Result<Self, Error> {
        let link = links.find(LOOPBACK)?.ok_or(Error::NoLoopback)?.index;
        Ok(Self { routes: Routes::open()?, link })
    }

    /// Has packets to an address delivered here; says whether that could be. It cannot where the node has no other address
    /// to speak from.
    pub(super) fn add(&mut self, address: IpAddr) -> Result<bool, Error> {
        let anybody = if address.is_ipv4() { ANYBODY.0.into() } else { ANYBODY.1.into() };
        let Some(source) = source_towards(anybody) else { return Ok(false) };
        let route = AddressRoute { address, link: self.link, source: Some(source) };
        self.routes.address_route(Change::Add, &route)?;
        Ok(true)
    }

    /// Those among some addresses that are not on our device to which packets are delivered here.
    pub(super) fn of(&mut self, addresses: BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, Error> {
        let mut detached = Vec::new();
        for address in addresses {
            if self.routes.way(address, 0)?.is_some_and(|way| way.local) {
                detached.push(address);
            }
        }
        Ok(detached)
    }

    /// No longer; none of them need be there.
    pub(super) fn remove<'a>(
        &mut self,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
    ) -> Result<(), Error> {
        for address in addresses {
            let route = AddressRoute { address: *address, link: self.link, source: None };
            self.routes.address_route(Change::Remove, &route)?;
        }
        Ok(())
    }
}

/// Those that are entered in our sets as addresses of our device, and are not there.
pub(super) fn among(entered: &HashSet<Entry>, on_device: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    all(entered).difference(on_device).copied().collect()
}

/// Those that are entered in our sets as addresses of our device.
pub(super) fn all(entered: &HashSet<Entry>) -> BTreeSet<IpAddr> {
    let addresses = entered.iter().filter_map(|entry| match entry {
        Entry::Ip(address) => Some(*address),
        _ => None,
    });
    addresses.collect()
}
