//! What rules look up in the kernel besides their own text: ipsets, and the addresses that were seen before.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use kernel::ipset::{Entry, Header, Ipsets, Kind};

use super::matches::Side;
use super::traveller::Headers;

/// Where it is looked up.
pub(in crate::trace) trait Kept {
    /// How long ago an address was put on a list of the extension `recent`.
    fn last_seen(&self, list: &str, address: IpAddr) -> Result<Option<Duration>, kernel::Error>;

    /// A set; `None` if there is none, or it is of a kind that is not understood.
    fn set(&self, name: &str) -> Result<Option<Rc<Set>>, kernel::Error>;
}

/// What is in a set.
#[derive(Debug)]
pub(in crate::trace) struct Set {
    pub(in crate::trace) kind: Kind,
    pub(in crate::trace) entries: HashSet<Entry>,
}

impl Set {
    /// Whether a packet is in it, looked up by these of its sides; `None` if that cannot be told.
    pub(super) fn contains(&self, sides: &[Side], of: &Headers) -> Option<bool> {
        let address = |side| match side {
            Side::Source => of.source,
            Side::Destination => of.destination.ip(),
        };
        let (protocol, port) = (of.protocol, of.destination.port());
        // The source's port is not known.
        Some(match (self.kind, sides) {
            (Kind::HashIp, [one]) => self.has(Entry::Ip(address(*one))),
            (Kind::HashNet, [one]) => networks(address(*one))
                .any(|net| self.has(Entry::Net { net: net.network(), prefix: net.prefix_len() })),
            (Kind::BitmapPort, [Side::Destination]) => self.has(Entry::Port(port)),
            (Kind::HashIpPort, [one, Side::Destination]) => {
                self.has(Entry::IpPort { address: address(*one), protocol, port })
            }
            (Kind::HashIpPortIp, [one, Side::Destination, two]) => {
                let (address, other) = (address(*one), address(*two));
                self.has(Entry::IpPortIp { address, protocol, port, other })
            }
            (Kind::HashIpPortNet, [one, Side::Destination, two]) => {
                let (address, client) = (address(*one), address(*two));
                networks(client).any(|net| {
                    let (net, prefix) = (net.network(), net.prefix_len());
                    self.has(Entry::IpPortNet { address, protocol, port, net, prefix })
                })
            }
            _ => return None,
        })
    }

    fn has(&self, entry: Entry) -> bool {
        self.entries.contains(&entry)
    }
}

/// All networks that an address is in.
fn networks(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let host = IpNet::from(address).prefix_len();
    (0..=host).filter_map(move |prefix| IpNet::new(address, prefix).ok())
}

/// The kernel. A set is read once, when it is first looked into.
#[derive(Default)]
pub(in crate::trace) struct InKernel(RefCell<Sets>);

#[derive(Default)]
struct Sets {
    connection: Option<(Ipsets, Vec<Header>)>,
    read: HashMap<String, Option<Rc<Set>>>,
}

impl Sets {
    fn find(&mut self, name: &str) -> Result<Option<Rc<Set>>, kernel::Error> {
        if let Some(known) = self.read.get(name) {
            return Ok(known.clone());
        }
        let mut opened = match self.connection.take() {
            Some(opened) => opened,
            None => {
                let mut sets = Ipsets::open()?;
                let headers = sets.headers()?;
                (sets, headers)
            }
        };
        let (sets, headers) = &mut opened;
        let kind = headers.iter().find(|header| header.name == name).and_then(|header| header.kind);
        let set = match kind {
            Some(kind) => Some(Set { kind, entries: sets.entries(name)?.into_iter().collect() }),
            None => None,
        };
        self.connection = Some(opened);
        let set = set.map(Rc::new);
        self.read.insert(name.to_owned(), set.clone());
        Ok(set)
    }
}

impl Kept for InKernel {
    fn last_seen(&self, list: &str, address: IpAddr) -> Result<Option<Duration>, kernel::Error> {
        kernel::iptables::last_seen(list, address)
    }

    fn set(&self, name: &str) -> Result<Option<Rc<Set>>, kernel::Error> {
        self.0.borrow_mut().find(name)
    }
}
