//! What the node's routing says of addresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail};
use kernel::link::{Address, Links};
use kernel::route::{Routes, Way, source_towards};

use super::model::{Origin, Surroundings};
use super::query::Whence;

/// Stand for anybody outside: of the ranges for documentation, which no host has.
const ANYBODY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ANYBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// This node, as its kernel routes.
pub(super) struct Node {
    routes: RefCell<Routes>,
    links: RefCell<Links>,
    known: RefCell<HashMap<IpAddr, Option<Way>>>,
    addresses: Vec<Address>,
}

/// Who connects: as whom, and where the node's rules meet it.
pub(super) struct Client {
    /// Its address.
    pub(super) address: IpAddr,
    /// How it comes.
    pub(super) origin: Origin,
}

impl Node {
    /// The node that the process is on.
    ///
    /// # Errors
    /// When the kernel does not tell of devices or routes.
    pub(super) fn open() -> anyhow::Result<Self> {
        let mut links = Links::open()?;
        let addresses = links.addresses()?;
        let routes = RefCell::new(Routes::open()?);
        Ok(Self { routes, links: RefCell::new(links), known: RefCell::default(), addresses })
    }

    /// The way to an address; none too where the kernel does not tell.
    pub(super) fn way(&self, to: IpAddr) -> Option<Way> {
        if let Some(way) = self.known.borrow().get(&to) {
            return *way;
        }
        let way = self.routes.borrow_mut().way(to, 0).ok().flatten();
        self.known.borrow_mut().insert(to, way);
        way
    }

    /// Who connects to an address.
    ///
    /// # Errors
    /// When nobody can from there.
    pub(super) fn client(&self, whence: Whence, to: IpAddr) -> anyhow::Result<Client> {
        let address = match whence {
            Whence::Address(address) => address,
            Whence::Outside if to.is_ipv4() => ANYBODY_V4.into(),
            Whence::Outside => ANYBODY_V6.into(),
            Whence::Node => {
                let nowhere = || {
                    format!(
                        "this node has no route to {to}, so no process on it can connect there: add a default route, or say who connects with --source"
                    )
                };
                let address = source_towards(to).with_context(nowhere)?;
                return Ok(Client { address, origin: Origin::Node });
            }
        };
        if self.is_local(address) {
            return Ok(Client { address, origin: Origin::Node });
        }
        let Some((name, index)) = self.interface_towards(address) else {
            bail!(
                "this node has no route to {address}, so it is unknown by which interface its packets come: \
                 give a --source that the node reaches, or `outside` if there is a default route"
            );
        };
        Ok(Client { address, origin: Origin::Interface { name, index } })
    }

    /// The address that takes a source's place in packets to an endpoint: as the kernel chooses it, one of the
    /// interface that they leave by (`inet_select_addr`), whatever source the route prefers.
    pub(super) fn masquerade_address(&self, to: IpAddr) -> Option<IpAddr> {
        let link = self.way(to)?.link;
        let usable = |address: &&Address| {
            address.link == link && address.address.is_ipv4() == to.is_ipv4() && !address.link_local_scope
        };
        let near = |address: &&Address| {
            ipnet::IpNet::new(address.address, address.prefix).is_ok_and(|net| net.contains(&to))
        };
        let of_link = || self.addresses.iter().filter(usable);
        let chosen = of_link().find(near).or_else(|| of_link().next());
        chosen.map(|address| address.address).or_else(|| source_towards(to))
    }

    /// The address by which the outside knows this node.
    pub(super) fn own_address(&self, ipv4: bool) -> Option<IpAddr> {
        source_towards(if ipv4 { ANYBODY_V4.into() } else { ANYBODY_V6.into() })
    }

    /// Whether packets of a family are passed on from one interface to another.
    pub(super) fn forwards(&self, ipv4: bool) -> Option<bool> {
        let name = if ipv4 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
        kernel::sysctl::get(name).ok().map(|value| value != "0")
    }
}

impl Surroundings for Node {
    fn is_local(&self, address: IpAddr) -> bool {
        self.way(address).is_some_and(|way| way.local)
    }

    fn interface_towards(&self, address: IpAddr) -> Option<(String, u32)> {
        let link = self.way(address)?.link;
        let link = self.links.borrow_mut().get(link).ok().flatten()?;
        Some((link.name, link.index))
    }
}
