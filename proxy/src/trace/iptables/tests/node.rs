//! A node to walk on: its addresses and interfaces, and what it remembers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use endpoint_cache::Protocol;
use kernel::ipset::{Entry, Kind};

use super::super::super::model::{End, Origin, Packet, Surroundings, Walk};
use super::super::{Kept, Set};

/// 192.168.1.5, with pods in 10.0.1.0/24.
#[derive(Default)]
pub(in crate::trace) struct Node {
    /// Addresses besides its own.
    pub(in crate::trace) more: Vec<IpAddr>,
    pub(in crate::trace) sets: HashMap<String, (Kind, Vec<Entry>)>,
    /// Who was seen how long ago, by list.
    pub(in crate::trace) seen: HashMap<(String, IpAddr), Duration>,
}

pub(in crate::trace) const NODE: &str = "192.168.1.5";
pub(in crate::trace) const POD: &str = "10.0.1.1";
pub(in crate::trace) const CLIENT: &str = "192.0.2.9";
pub(in crate::trace) const STRANGER: &str = "198.51.100.7";

impl Surroundings for Node {
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.to_string() == NODE || self.more.contains(&address)
    }

    fn interface_towards(&self, address: IpAddr) -> Option<(String, u32)> {
        let to_pod = address.to_string().starts_with("10.0.1.");
        Some(if to_pod { ("veth1".to_owned(), 3) } else { ("eth0".to_owned(), 2) })
    }
}

impl Kept for Node {
    fn last_seen(&self, list: &str, address: IpAddr) -> Result<Option<Duration>, kernel::Error> {
        Ok(self.seen.get(&(list.to_owned(), address)).copied())
    }

    fn set(&self, name: &str) -> Result<Option<Rc<Set>>, kernel::Error> {
        let set = |(kind, entries): &(Kind, Vec<Entry>)| {
            Rc::new(Set { kind: *kind, entries: entries.iter().copied().collect::<HashSet<_>>() })
        };
        Ok(self.sets.get(name).map(set))
    }
}

/// A packet to a place such as `10.96.0.10:80`. What the node does not send comes in by an interface.
pub(in crate::trace) fn packet(source: &str, to: &str, protocol: Protocol) -> Packet {
    let origin = match source {
        NODE => Origin::Node,
        POD => Origin::Interface { name: "veth1".to_owned(), index: 3 },
        _ => Origin::Interface { name: "eth0".to_owned(), index: 2 },
    };
    Packet { source: source.parse().unwrap(), destination: to.parse().unwrap(), protocol, origin }
}

/// Each way in a few words: share, end, and whether it is masqueraded; the shares must add up.
pub(in crate::trace) fn told(walk: &Walk) -> Vec<String> {
    let sum: f64 = walk.ways.iter().map(|way| way.share).sum();
    assert!((sum - 1.0).abs() < 1e-9, "shares add up to {sum}");
    let snat = |masquerade: bool| if masquerade { " masqueraded" } else { "" };
    let way = |end: &End| match end {
        End::Endpoint { to, masquerade } => format!("{to}{}", snat(*masquerade)),
        End::Untranslated { masquerade } => format!("on{}", snat(*masquerade)),
        other => format!("{other:?}"),
    };
    walk.ways.iter().map(|one| format!("{:.3} {}", one.share, way(&one.end))).collect()
}

/// The places that one way leads by.
pub(in crate::trace) fn places(walk: &Walk, way: usize) -> Vec<&str> {
    walk.ways[way].steps.iter().map(|step| step.place.as_str()).collect()
}
