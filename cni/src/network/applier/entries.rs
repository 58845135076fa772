//! Routes, neighbours and forwarding entries: what ways are made of. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;
use kernel::neighbour::{Forwarding, Neighbour, NeighbourEdit};
use kernel::route::{MAIN, Route, RouteEdit, Scope};

use crate::PROTOCOL;
use crate::network::desired::{Change, Delta, Desired, Way};

/// Greater than that of any route to a pod, to all of them by a bridge, or to a node: packets come here when there is no
/// such pod, and would leave by the default route.
const LAST: u32 = 1 << 20;

/// What the kernel is to hold, or holds.
#[derive(Default)]
pub(super) struct Entries {
    /// By destination and metric.
    pub(super) routes: BTreeMap<(IpNet, Option<u32>), Route>,
    /// By device and address.
    pub(super) neighbours: BTreeMap<(u32, IpAddr), Mac>,
    pub(super) forwarding: BTreeSet<Forwarding>,
    /// Which destination they are for.
    of: BTreeMap<(u32, IpAddr), IpNet>,
}

/// A change, and the destination that it is for.
pub(super) struct Edit {
    pub(super) destination: IpNet,
    pub(super) edit: NeighbourEdit,
}

/// A way, as the kernel has it. `None` by a device that is not there.
struct Pieces {
    route: Route,
    neighbour: Option<Neighbour>,
    forwarding: Option<Forwarding>,
}

impl Pieces {
    fn of(destination: IpNet, way: Way, devices: &BTreeMap<Family, u32>) -> Option<Self> {
        let plain = Route {
            destination,
            gateway: None,
            onlink: false,
            link: 0,
            source: None,
            table: MAIN,
            protocol: PROTOCOL,
            scope: Scope::Universe,
            metric: None,
            mtu: None,
        };
        Some(match way {
            Way::Gateway { address, link } => {
                let route = Route { gateway: Some(address), link, ..plain };
                Self { route, neighbour: None, forwarding: None }
            }
            Way::Tunnel { mac, node } => {
                let link = *devices.get(&Family::of(destination.addr()))?;
                let address = destination.network();
                Self {
                    route: Route { gateway: Some(address), onlink: true, link, ..plain },
                    neighbour: Some(Neighbour { link, address, mac, permanent: true }),
                    forwarding: Some(Forwarding { link, mac, to: node }),
                }
            }
        })
    }
}

impl Entries {
    pub(super) fn of(desired: &Desired, devices: &BTreeMap<Family, u32>) -> Self {
        let mut entries = Self::default();
        for (destination, way) in &desired.ways {
            let Some(pieces) = Pieces::of(*destination, *way, devices) else { continue };
            entries.routes.insert((*destination, None), pieces.route);
            if let (Some(neighbour), Some(forwarding)) = (pieces.neighbour, pieces.forwarding) {
                let key = (neighbour.link, neighbour.address);
                entries.neighbours.insert(key, neighbour.mac);
                entries.of.insert(key, *destination);
                entries.forwarding.insert(forwarding);
            }
        }
        for range in desired.own.values() {
            let route = Route {
                destination: *range,
                gateway: None,
                onlink: false,
                link: 0,
                source: None,
                table: MAIN,
                protocol: PROTOCOL,
                scope: Scope::Universe,
                metric: Some(LAST),
                mtu: None,
            };
            entries.routes.insert((*range, Some(LAST)), route);
        }
        entries
    }

    /// What `wanted` has that these have not.
    pub(super) fn additions(&self, wanted: &Self) -> Vec<Edit> {
        let any = wanted.routes.keys().next().map(|(destination, _)| *destination);
        let forwarding = wanted
            .forwarding
            .difference(&self.forwarding)
            .filter_map(|entry| Some(Edit { destination: any?, edit: NeighbourEdit::Forward(*entry) }));
        let neighbours = wanted.neighbours.iter().filter(|(key, mac)| self.neighbours.get(key) != Some(mac));
        let neighbours = neighbours.filter_map(|(key, mac)| {
            let set = Neighbour { link: key.0, address: key.1, mac: *mac, permanent: true };
            Some(Edit { destination: *wanted.of.get(key)?, edit: NeighbourEdit::Set(set) })
        });
        forwarding.chain(neighbours).collect()
    }

    /// What these have that `wanted` has not.
    pub(super) fn removals(&self, wanted: &Self) -> Vec<Edit> {
        let neighbours = self.neighbours.iter().filter(|(key, _)| !wanted.neighbours.contains_key(key));
        let neighbours = neighbours.map(|((link, address), mac)| {
            let forget = Neighbour { link: *link, address: *address, mac: *mac, permanent: true };
            Edit { destination: IpNet::from(*address), edit: NeighbourEdit::Forget(forget) }
        });
        let forwarding = self.forwarding.difference(&wanted.forwarding);
        let forwarding = forwarding
            .map(|entry| Edit { destination: IpNet::from(entry.to), edit: NeighbourEdit::Stop(*entry) });
        neighbours.chain(forwarding).collect()
    }
}

/// What a delta changes, in this order.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) additions: Vec<Edit>,
    pub(super) routes: Vec<RouteEdit>,
    /// Routes that go.
    pub(super) sweep: Vec<RouteEdit>,
    pub(super) removals: Vec<Edit>,
}

pub(super) fn change(delta: &Delta, desired: &Desired, devices: &BTreeMap<Family, u32>) -> Steps {
    let mut steps = Steps::default();
    let mut kept = BTreeSet::new();
    for Change { destination, before, after } in &delta.ways {
        let pieces = |way: Option<Way>| way.and_then(|way| Pieces::of(*destination, way, devices));
        let (before, after) = (pieces(*before), pieces(*after));
        let forwarding = after.as_ref().and_then(|after| after.forwarding);
        let neighbour = after.as_ref().and_then(|after| after.neighbour);
        kept.extend(forwarding);
        let edits =
            forwarding.map(NeighbourEdit::Forward).into_iter().chain(neighbour.map(NeighbourEdit::Set));
        steps.additions.extend(edits.map(|edit| Edit { destination: *destination, edit }));
        match (before, after) {
            (None, Some(after)) => steps.routes.push(RouteEdit::Create(after.route)),
            (Some(before), Some(after)) if before.route != after.route => {
                steps.routes.push(instead(&before.route, after.route));
                steps.sweep.extend(leftover(before.route));
            }
            (Some(before), None) => steps.sweep.push(RouteEdit::Remove(before.route)),
            _ => {}
        }
    }
    for Change { destination, before, .. } in &delta.ways {
        let Some(before) = before.and_then(|way| Pieces::of(*destination, way, devices)) else { continue };
        let neighbour = before.neighbour.filter(|found| !is_first_of_another(found.address, desired));
        let forwarding = before.forwarding.filter(|entry| !kept.contains(entry));
        let edits =
            neighbour.map(NeighbourEdit::Forget).into_iter().chain(forwarding.map(NeighbourEdit::Stop));
        steps.removals.extend(edits.map(|edit| Edit { destination: *destination, edit }));
    }
    steps
}

/// A route in the place of another of ours, so that no packet finds neither. [`leftover`] tells what has to go afterwards.
pub(super) fn instead(of: &Route, route: Route) -> RouteEdit {
    match leftover(*of) {
        Some(_) => RouteEdit::Append(route),
        None => RouteEdit::Replace(route),
    }
}

/// What is left of a route when [`instead`] of it there is another. What led nowhere is simply replaced.
pub(super) fn leftover(route: Route) -> Option<RouteEdit> {
    (route.destination.addr().is_ipv4() && route.link != 0).then_some(RouteEdit::Remove(route))
}

/// Changes as the kernel takes them, and where among them each is.
///
/// IPv6 takes a router that is said to be on a device's link only if nothing says otherwise: not the route that is to be
/// replaced, nor one to more. So there is a route to the router itself, for as long as it takes.
pub(super) fn with_scaffold(edits: &[RouteEdit]) -> (Vec<RouteEdit>, Vec<usize>) {
    let (mut commands, mut places) = (Vec::with_capacity(edits.len()), Vec::with_capacity(edits.len()));
    for edit in edits {
        let route = edit.route();
        let router = route.gateway.filter(|gateway| route.onlink && gateway.is_ipv6());
        let router = router.filter(|_| !matches!(edit, RouteEdit::Remove(_)));
        let scaffold = router.map(|router| Route {
            destination: IpNet::from(router),
            gateway: None,
            onlink: false,
            ..*route
        });
        commands.extend(scaffold.map(RouteEdit::Add));
        places.push(commands.len());
        commands.push(*edit);
        commands.extend(scaffold.map(RouteEdit::Remove));
    }
    (commands, places)
}

/// Whether a range that is reached by a VXLAN device begins with an address: one of another length may.
fn is_first_of_another(address: IpAddr, desired: &Desired) -> bool {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let range = |length| IpNet::new(address, length).ok();
    let (Some(first), Some(last)) = (range(0), range(longest)) else { return false };
    desired
        .ways
        .range(first..=last)
        .any(|(found, way)| found.network() == address && matches!(way, Way::Tunnel { .. }))
}
