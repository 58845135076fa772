//! Making and removing.

use std::os::fd::AsFd;

use kernel::Mac;
use kernel::link::{End, Link, LinkChange, Links, is_link_name};
use kernel::neighbour::{Neighbour, NeighbourEdit, Neighbours};
use kernel::netns::Netns;
use kernel::route::{Family, MAIN, Route, RouteEdit, Routes, Scope};
use tracing::warn;

use super::{
    DataPath, Error, Interface, Made, Wanted, bandwidth, bridge, forwarding, names, pod, ports, settle,
};
use crate::{PROTOCOL, fault};

/// What a device's largest packet has at least and at most (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;
/// What IPv6 needs.
const MTU_V6: u32 = 1280;

/// Makes an attachment. It works when this returns; if this fails, nothing of it is left.
///
/// # Errors
/// When something is there already that is not to be touched, or the kernel refuses.
pub fn add(wanted: &Wanted) -> Result<Made, Error> {
    let macs = Macs::of(wanted)?;
    let netns = Netns::open(&wanted.netns)?;
    if netns.identity()? == Netns::current()?.identity()? {
        return Err(Error::OwnNetns(wanted.netns.display().to_string()));
    }
    let mut links = Links::open()?;
    make_pair(wanted, &macs, &netns, &mut links)?;
    fault::at("attach-pair");
    set_up(wanted, &macs, &netns, &mut links).inspect_err(|_| {
        if let Err(error) = remove(wanted) {
            warn!(host_interface = wanted.host_interface, %error, "what was made could not be removed again");
        }
    })
}

/// Hardware addresses of both ends.
struct Macs {
    host: Mac,
    pod: Mac,
}

impl Macs {
    /// Looks at all that the kernel would not.
    fn of(wanted: &Wanted) -> Result<Self, Error> {
        for name in [&wanted.interface, &wanted.host_interface] {
            if !is_link_name(name) {
                return Err(Error::Bad(format!("{name:?} cannot be an interface's name")));
            }
        }
        if let Some(mtu) = wanted.mtu.filter(|mtu| !MTU.contains(mtu)) {
            return Err(Error::Bad(format!("an MTU of {mtu} is not from {} to {}", MTU.start(), MTU.end())));
        }
        if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu < MTU_V6 && wanted.has_family(Family::V6)) {
            return Err(Error::Bad(format!("an MTU of {mtu} is too small for IPv6, which needs {MTU_V6}")));
        }
        let host = names::mac(&["host", &wanted.host_interface]);
        let pod =
            match &wanted.mac {
                None => {
                    let first = wanted.addresses.first().map(|assigned| assigned.address.addr());
                    names::pod_mac(first, &wanted.host_interface)
                }
                Some(text) => text.parse().ok().filter(|mac: &Mac| mac.is_unicast()).ok_or_else(|| {
                    Error::Bad(format!("{text:?} cannot be an interface's hardware address"))
                })?,
            };
        Ok(Self { host, pod })
    }
}

fn make_pair(wanted: &Wanted, macs: &Macs, netns: &Netns, links: &mut Links) -> Result<(), Error> {
    let host = End { name: &wanted.host_interface, mtu: wanted.mtu, mac: macs.host };
    let inner = End { name: &wanted.interface, mtu: wanted.mtu, mac: macs.pod };
    let make = |links: &mut Links| links.make_veth(&host, &inner, Some(netns.as_fd()));
    let Err(refused) = make(links) else { return Ok(()) };
    if netns.run(|| Links::open()?.find(&wanted.interface))??.is_some() {
        return Err(Error::InterfaceTaken(wanted.interface.clone()));
    }
    // What is left of a pod of that name whose namespace was another one.
    match links.find(&wanted.host_interface)? {
        Some(left) if left.kind.as_deref() == Some("veth") => {
            links.remove(left.index)?;
            Ok(make(links)?)
        }
        _ => Err(refused.into()),
    }
}

fn set_up(wanted: &Wanted, macs: &Macs, netns: &Netns, links: &mut Links) -> Result<Made, Error> {
    let host = links.find(&wanted.host_interface)?;
    let host = host.ok_or(kernel::Error::Malformed("a veth that was made is not listed"))?;
    let inner = host.peer.ok_or(kernel::Error::Malformed("a veth without another end"))?;
    forwarding::allow(wanted, links)?;
    let bridge = match &wanted.path {
        DataPath::Routed => None,
        DataPath::Bridge { name, promiscuous, .. } => {
            Some(bridge::ensure(wanted, name, *promiscuous, links)?)
        }
    };
    fault::at("attach-bridge");
    set_up_host(wanted, &host, bridge.as_ref(), links)?;
    fault::at("attach-host");
    netns.run(|| pod::set_up(wanted, inner, macs.host))??;
    fault::at("attach-pod");
    match &bridge {
        None => lead_to_pod(wanted, host.index, macs.pod)?,
        Some(bridge) => bridge::await_port(bridge, host.index, links)?,
    }
    settle::until(
        || format!("the carrier of {}", host.name),
        || Ok(links.get(host.index)?.is_some_and(|link| link.operating)),
    )?;
    fault::at("attach-routes");
    bandwidth::limit(wanted, &host, links)?;
    fault::at("attach-bandwidth");
    ports::open(wanted)?;
    fault::at("attach-ports");
    let interface =
        |name: &str, mac: Mac| Interface { name: name.to_owned(), mac: mac.to_string(), mtu: host.mtu };
    Ok(Made {
        bridge: bridge.map(|bridge| Interface {
            name: bridge.name,
            mac: bridge.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: bridge.mtu,
        }),
        host: interface(&host.name, macs.host),
        pod: interface(&wanted.interface, macs.pod),
    })
}

/// The node's end: up, without an address of its own.
fn set_up_host(wanted: &Wanted, host: &Link, bridge: Option<&Link>, links: &mut Links) -> Result<(), Error> {
    let alias = format!("pointsman: {} of {}", wanted.interface, wanted.container);
    let change = LinkChange {
        alias: Some(&alias),
        master: bridge.map(|bridge| bridge.index),
        no_link_local: true,
        ..LinkChange::default()
    };
    links.change(host.index, &change)?;
    match wanted.path {
        DataPath::Routed => forwarding::set_all(&host.name, &host_parameters(wanted))?,
        DataPath::Bridge { hairpin, .. } => {
            if hairpin {
                links.set_hairpin(host.index, true)?;
            }
        }
    }
    links.change(host.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    Ok(())
}

/// Parameters of the node's end of a pod that is routed.
pub(super) fn host_parameters(wanted: &Wanted) -> Vec<(Family, &'static str, &'static str)> {
    let mut parameters = Vec::new();
    if wanted.has_family(Family::V4) {
        parameters.extend([
            (Family::V4, "forwarding", "1"),
            // Nobody can send under an address that is not led there.
            (Family::V4, "rp_filter", "1"),
            // It answers for no address: the pod knows the only one that it needs.
            (Family::V4, "arp_ignore", "1"),
            (Family::V4, "proxy_arp", "0"),
        ]);
    }
    // What a pod says of routers is not for the node to believe.
    parameters.push((Family::V6, "accept_ra", "0"));
    if wanted.has_family(Family::V6) {
        parameters.extend([(Family::V6, "forwarding", "1"), (Family::V6, "proxy_ndp", "0")]);
    }
    parameters
}

/// The node's routes to a pod that is routed.
pub(super) fn host_routes(wanted: &Wanted, link: u32) -> Vec<Route> {
    let route = |assigned: &super::Assigned| Route {
        destination: assigned.address.addr().into(),
        gateway: None,
        onlink: false,
        link,
        source: None,
        table: MAIN,
        protocol: PROTOCOL,
        scope: Scope::Link,
        metric: None,
        mtu: None,
    };
    wanted.addresses.iter().map(route).collect()
}

fn lead_to_pod(wanted: &Wanted, link: u32, mac: Mac) -> Result<(), Error> {
    let neighbour = |assigned: &super::Assigned| {
        NeighbourEdit::Set(Neighbour { link, address: assigned.address.addr(), mac, permanent: true })
    };
    let neighbours: Vec<_> = wanted.addresses.iter().map(neighbour).collect();
    pod::first(Neighbours::open()?.run(&neighbours)?)?;
    // One that is left of a pod before gives way.
    let routes: Vec<_> = host_routes(wanted, link).into_iter().map(RouteEdit::Replace).collect();
    pod::first(Routes::open()?.run(&routes)?)
}

/// Removes an attachment, or what is left of it. Nothing there is no error, nor is a namespace that is gone.
///
/// # Errors
/// When the kernel refuses; what can be removed is removed all the same.
pub fn remove(wanted: &Wanted) -> Result<(), Error> {
    let ports = ports::close(wanted);
    let mut links = Links::open()?;
    let pair = remove_link(&mut links, &wanted.host_interface, "veth");
    let ifb = remove_link(&mut links, &names::ifb_name(&wanted.host_interface), "ifb");
    ports.and(pair).and(ifb)
}

/// Removes a device, unless it is of another kind and so is not the one meant.
fn remove_link(links: &mut Links, name: &str, kind: &str) -> Result<(), Error> {
    let found = links.find(name)?.filter(|link| link.kind.as_deref() == Some(kind));
    let Some(link) = found else { return Ok(()) };
    match links.remove(link.index) {
        // It went with its other end, whose namespace has just gone.
        Err(_) if links.get(link.index)?.is_none_or(|found| found.name != name) => Ok(()),
        done => Ok(done?),
    }
}
