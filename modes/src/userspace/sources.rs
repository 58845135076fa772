//! Under whose address endpoints are connected to: the client's, where answers are sure to come back through this node.
//!
//! They are when the client is one of this node's pods, since everything for it comes here; and when the endpoint is one
//! and the client is not, since everything from it comes here. Not when both are behind the same device, be it a bridge
//! or another network: there they answer each other past us.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use endpoint_cache::{Endpoint, Family, NodeState};
use ipnet::IpNet;
use kernel::link::Links;
use kernel::route::Routes;

use super::targets::Kept;
use crate::{DetectLocal, Error};

/// For how long it is remembered where an address is.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Of how many addresses at most.
const MOST: usize = 1 << 14;

/// Decides under whose address endpoints are connected to. Asked by many threads.
pub(super) struct Sources(Mutex<Known>);

struct Known {
    detect_local: DetectLocal,
    pod_cidrs: Vec<IpNet>,
    /// Families whose answers can be led back.
    led_back: Vec<Family>,
    places: HashMap<IpAddr, (Instant, Option<Place>)>,
    routes: Routes,
    links: Links,
}

/// Where an address is, as seen from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// It is the node's own.
    own: bool,
    /// It is on the link of the device, not beyond a router.
    near: bool,
    /// Index of the device.
    link: u32,
    /// The device's name.
    name: String,
    /// Whether the device is no hardware.
    made: bool,
}

impl Sources {
    /// Nobody's address is kept before [`Sources::update`].
    pub(super) fn open(detect_local: DetectLocal) -> Result<Self, Error> {
        Ok(Self(Mutex::new(Known {
            detect_local,
            pod_cidrs: Vec::new(),
            led_back: Vec::new(),
            places: HashMap::new(),
            routes: Routes::open()?,
            links: Links::open()?,
        })))
    }

    /// Takes in what the Node object says, and in which families answers can be led back.
    pub(super) fn update(&self, node: &NodeState, led_back: Vec<Family>) {
        let mut known = self.known();
        known.pod_cidrs.clone_from(&node.pod_cidrs);
        known.led_back = led_back;
        known.places.clear();
    }

    /// Whether an endpoint is to see the client's own address.
    pub(super) fn keeps(&self, kept: Kept, client: IpAddr, endpoint: &Endpoint) -> bool {
        kept != Kept::Nobody && self.known().keeps(kept, client, endpoint)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keeps(&mut self, kept: Kept, client: IpAddr, endpoint: &Endpoint) -> bool {
        let family = Family::of(client);
        if !self.led_back.contains(&family) || family != Family::of(endpoint.address) {
            return false;
        }
        let (Some(from), Some(to)) = (self.place(client), self.place(endpoint.address)) else { return false };
        let apart = !from.own && !to.own && from.link != to.link;
        apart
            && match kept {
                Kept::Nobody => false,
                Kept::Pods => self.is_pod(client, &from),
                Kept::Everybody => endpoint.local,
            }
    }

    /// Whether a client is a pod of this node.
    fn is_pod(&mut self, client: IpAddr, place: &Place) -> bool {
        let known = self.pod_cidrs.iter().any(|range| range.contains(&client));
        match &self.detect_local {
            DetectLocal::NodeCidr => known,
            DetectLocal::BridgeInterface(name) => place.near && place.name == *name,
            DetectLocal::InterfaceNamePrefix(prefix) => place.near && place.name.starts_with(prefix),
            DetectLocal::ClusterCidr(ranges) => {
                let in_cluster = ranges.iter().any(|range| range.contains(&client));
                known || (in_cluster && place.near && place.made && !self.is_default(client, place.link))
            }
        }
    }

    /// Whether the default route is over a device: pods of other nodes may be on its link as well.
    fn is_default(&mut self, client: IpAddr, link: u32) -> bool {
        // Addresses for documentation (RFC 5737, RFC 3849), to which there is no other route.
        let anybody = match Family::of(client) {
            Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        self.place(anybody).is_some_and(|place| place.link == link)
    }

    /// `None` if there is no way there.
    fn place(&mut self, of: IpAddr) -> Option<Place> {
        let now = Instant::now();
        if let Some((since, place)) = self.places.get(&of)
            && now.duration_since(*since) < REMEMBERED
        {
            return place.clone();
        }
        if self.places.len() >= MOST {
            self.places.clear();
        }
        let place = self.look(of).unwrap_or_else(|error| {
            tracing::debug!(%of, "the node's address is used: {error}");
            None
        });
        self.places.insert(of, (now, place.clone()));
        place
    }

    fn look(&mut self, of: IpAddr) -> Result<Option<Place>, Error> {
        let Some(way) = self.routes.way(of, 0)? else { return Ok(None) };
        let link = self.links.get(way.link)?;
        Ok(link.map(|link| Place {
            own: way.local,
            near: !way.gateway,
            link: link.index,
            name: link.name,
            made: link.kind.is_some(),
        }))
    }
}
