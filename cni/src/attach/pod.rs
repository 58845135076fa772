//! The pod's end: what is done in the pod's network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::Mac;
use kernel::link::{Assignment, LinkChange, Links};
use kernel::neighbour::{Neighbour, NeighbourEdit, Neighbours};
use kernel::route::{Family, MAIN, Route, RouteEdit, Routes, Scope};

use super::{Assigned, DataPath, Error, Wanted, forwarding, settle};
use crate::PROTOCOL;

/// Whom pods send to that are routed. No device has these as addresses: the node's end answers to its hardware address.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

impl Wanted {
    /// Whether the pod has an address of a family.
    pub(super) fn has_family(&self, family: Family) -> bool {
        self.addresses.iter().any(|assigned| family_of(assigned.address.addr()) == family)
    }

    /// Whom the pod sends to what is not on its link.
    pub(super) fn gateway(&self, family: Family) -> Option<IpAddr> {
        let mut of_family = self.addresses.iter().filter(|a| family_of(a.address.addr()) == family);
        match (&self.path, family) {
            (DataPath::Bridge { .. }, _) => of_family.find_map(|assigned| assigned.gateway),
            (DataPath::Routed, Family::V4) => of_family.next().map(|_| GATEWAY_V4),
            (DataPath::Routed, Family::V6) => of_family.next().map(|_| GATEWAY_V6),
        }
    }

    /// The addresses as the pod has them.
    pub(super) fn pod_addresses(&self) -> Vec<IpNet> {
        let as_pod_has_it = |assigned: &Assigned| match self.path {
            DataPath::Routed => IpNet::from(assigned.address.addr()),
            DataPath::Bridge { .. } => assigned.address,
        };
        self.addresses.iter().map(as_pod_has_it).collect()
    }

    /// The pod's routes, but for those that come with its addresses. One that is wanted to everywhere stands for ours.
    pub(super) fn pod_routes(&self, link: u32) -> Vec<Route> {
        let default = |family| match family {
            Family::V4 => IpNet::V4(Ipv4Net::default()),
            Family::V6 => IpNet::V6(Ipv6Net::default()),
        };
        let mut routes: Vec<Route> = Vec::new();
        for wanted in &self.routes {
            let gateway = self.gateway(family_of(wanted.dst.addr()));
            // A pod that is routed has one way only, whatever an IPAM plugin takes for its gateway.
            let gateway = if self.path == DataPath::Routed { gateway } else { wanted.gw.or(gateway) };
            routes.push(self.pod_route(wanted.dst, gateway, link));
        }
        for family in [Family::V4, Family::V6] {
            let everywhere = default(family);
            let is_there = routes.iter().any(|route| route.destination == everywhere);
            if let Some(gateway) = self.gateway(family).filter(|_| !is_there) {
                routes.push(self.pod_route(everywhere, Some(gateway), link));
            }
        }
        routes
    }

    fn pod_route(&self, destination: IpNet, gateway: Option<IpAddr>, link: u32) -> Route {
        Route {
            destination: destination.trunc(),
            gateway,
            onlink: self.path == DataPath::Routed && gateway.is_some(),
            link,
            source: None,
            table: MAIN,
            protocol: PROTOCOL,
            scope: if gateway.is_some() { Scope::Universe } else { Scope::Link },
            metric: None,
            mtu: None,
        }
    }
}

pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Sets up the pod's end. To be run in the pod's network namespace.
pub(super) fn set_up(wanted: &Wanted, link: u32, host_mac: Mac) -> Result<(), Error> {
    let v6 = if wanted.has_family(Family::V6) { Some((Family::V6, "disable_ipv6", "0")) } else { None };
    let parameters: Vec<_> = v6
        .into_iter()
        // Nobody else has its addresses, so nothing is to be waited for; and nobody tells it of routers.
        .chain([(Family::V6, "accept_dad", "0"), (Family::V6, "accept_ra", "0")])
        .collect();
    forwarding::set_all(&wanted.interface, &parameters)?;
    let mut links = Links::open()?;
    links.change(link, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    let on_link = wanted.path != DataPath::Routed;
    let assignment = |address| Assignment { link, address, on_link };
    links.assign(&wanted.pod_addresses().into_iter().map(assignment).collect::<Vec<_>>())?;
    if wanted.path == DataPath::Routed {
        know_the_gateway(wanted, link, host_mac)?;
    }
    let mut routes = Routes::open()?;
    // Where another interface of the pod leads already, that was first.
    let edits: Vec<_> = wanted.pod_routes(link).into_iter().map(RouteEdit::Add).collect();
    first(routes.run(&edits)?)?;
    for assigned in &wanted.addresses {
        let address = assigned.address.addr();
        settle::until(
            || format!("delivery to {address} in the pod"),
            || Ok(routes.way(address, 0)?.is_some_and(|way| way.local)),
        )?;
    }
    Ok(())
}

fn know_the_gateway(wanted: &Wanted, link: u32, mac: Mac) -> Result<(), Error> {
    let gateways = [Family::V4, Family::V6].into_iter().filter_map(|family| wanted.gateway(family));
    let edits: Vec<_> = gateways
        .map(|address| NeighbourEdit::Set(Neighbour { link, address, mac, permanent: true }))
        .collect();
    first(Neighbours::open()?.run(&edits)?)
}

/// The first refusal.
pub(super) fn first(refused: Vec<(usize, kernel::Error)>) -> Result<(), Error> {
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
