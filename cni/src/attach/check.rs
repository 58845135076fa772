//! Whether an attachment is as it was made.
//!
//! Everything is looked at, so that one answer tells all that is wrong. What plugins that are chained after us may have
//! changed on purpose is let pass: more addresses and routes than ours, and ours in another table.

use std::net::IpAddr;

use kernel::link::{Link, Links};
use kernel::neighbour::Neighbours;
use kernel::netns::Netns;
use kernel::qdisc::{Bucket, QdiscKind, Qdiscs};
use kernel::route::{Route, Routes};
use kernel::sysctl;

use super::pod::family_of;
use super::{DataPath, Error, Wanted, bandwidth, bridge, make, names, ports};

/// How much the kernel's clock may round a burst, as a part of it.
const ROUNDED: u64 = 50;

/// Whether an attachment is as it was made.
///
/// # Errors
/// [`Error::Differs`] with all that is not; [`Error::Netns`] when the pod's namespace is gone; when the kernel does not
/// tell.
pub fn check(wanted: &Wanted) -> Result<(), Error> {
    let netns = Netns::open(&wanted.netns)?;
    let mut links = Links::open()?;
    let host = links.find(&wanted.host_interface)?;
    let mut wrong = Wrong(Vec::new());
    let inner = netns.run(|| in_pod(wanted, host.as_ref()))??;
    match &host {
        Some(host) => on_node(wanted, host, inner.mac, &mut links, &mut wrong)?,
        None => wrong.add(format!("the node's end {} is missing", wanted.host_interface)),
    }
    wrong.0.splice(0..0, inner.wrong);
    wrong.0.extend(ports::missing(wanted)?);
    if wrong.0.is_empty() { Ok(()) } else { Err(Error::Differs(wrong.0)) }
}

/// What is not as it was made.
struct Wrong(Vec<String>);

impl Wrong {
    fn add(&mut self, what: String) {
        self.0.push(what);
    }

    fn unless(&mut self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.0.push(what());
        }
    }
}

/// What was found in the pod.
#[derive(Default)]
struct Inner {
    wrong: Vec<String>,
    mac: Option<kernel::Mac>,
}

fn in_pod(wanted: &Wanted, host: Option<&Link>) -> Result<Inner, Error> {
    let (mut links, mut wrong) = (Links::open()?, Wrong(Vec::new()));
    let name = &wanted.interface;
    let Some(link) = links.find(name)? else {
        return Ok(Inner { wrong: vec![format!("interface {name} is missing in the pod")], mac: None });
    };
    wrong.unless(link.kind.as_deref() == Some("veth"), || format!("interface {name} in the pod is no veth"));
    wrong.unless(link.up, || format!("interface {name} in the pod is down"));
    wrong.unless(wanted.mtu.is_none_or(|mtu| mtu == link.mtu), || {
        format!("interface {name} in the pod has an MTU of {}", link.mtu)
    });
    if let Some(mac) = wanted.mac.as_deref().and_then(|text| text.parse().ok()) {
        wrong.unless(link.mac == Some(mac), || {
            format!("interface {name} in the pod has another hardware address than {mac}")
        });
    }
    let is_joined = |host: &Link| link.peer == Some(host.index) && host.peer == Some(link.index);
    wrong.unless(host.is_none_or(is_joined), || {
        format!("interface {name} in the pod does not lead to {}", wanted.host_interface)
    });
    let found = links.addresses()?;
    for address in wanted.pod_addresses() {
        let is_there = found.iter().any(|found| found.link == link.index && bridge::is(found, address));
        wrong.unless(is_there, || format!("address {address} is missing in the pod"));
    }
    let routes = Routes::open()?.list(None, None)?;
    for route in wanted.pod_routes(link.index) {
        wrong.unless(routes.iter().any(|found| leads_as_or_elsewhere(found, &route)), || {
            let way = route.gateway.map(|gateway| format!(" by way of {gateway}")).unwrap_or_default();
            format!("the pod's route to {}{way} is missing", route.destination)
        });
    }
    if let (DataPath::Routed, Some(host)) = (&wanted.path, host) {
        let neighbours = Neighbours::open()?.list(link.index)?;
        let gateways =
            wanted.addresses.iter().map(|assigned| wanted.gateway(family_of(assigned.address.addr())));
        for gateway in gateways.flatten() {
            let knows = neighbours.iter().any(|n| n.address == gateway && Some(n.mac) == host.mac);
            wrong
                .unless(knows, || format!("the pod does not know the hardware address of gateway {gateway}"));
        }
    }
    Ok(Inner { wrong: wrong.0, mac: link.mac })
}

/// Whether a route does what another is to do, in whatever table, at whatever metric, whoever made it.
fn leads_as(found: &Route, wanted: &Route) -> bool {
    found.destination == wanted.destination && found.gateway == wanted.gateway && found.link == wanted.link
}

/// The same, or it leads there by another interface of the pod, which was first.
fn leads_as_or_elsewhere(found: &Route, wanted: &Route) -> bool {
    let elsewhere = found.link != wanted.link && found.link != 0;
    leads_as(found, wanted) || (found.destination == wanted.destination && elsewhere)
}

fn on_node(
    wanted: &Wanted,
    host: &Link,
    inner: Option<kernel::Mac>,
    links: &mut Links,
    wrong: &mut Wrong,
) -> Result<(), Error> {
    let name = &host.name;
    wrong.unless(host.kind.as_deref() == Some("veth"), || format!("the node's end {name} is no veth"));
    wrong.unless(host.up, || format!("the node's end {name} is down"));
    wrong.unless(wanted.mtu.is_none_or(|mtu| mtu == host.mtu), || {
        format!("the node's end {name} has an MTU of {}", host.mtu)
    });
    match &wanted.path {
        DataPath::Routed => routed(wanted, host, inner, wrong)?,
        DataPath::Bridge { name, hairpin, promiscuous } => {
            match links.find(name)?.filter(|bridge| bridge.kind.as_deref() == Some("bridge")) {
                None => wrong.add(format!("bridge {name} is missing")),
                Some(found) => {
                    wrong.unless(!promiscuous || found.promiscuous, || {
                        format!("bridge {name} is not promiscuous")
                    });
                    bridged(wanted, host, &found, links, wrong)?;
                    let is_so = host.port.is_some_and(|port| port.hairpin) == *hairpin;
                    wrong.unless(is_so, || format!("hairpin mode of {} is not {hairpin}", host.name));
                }
            }
        }
    }
    limits(wanted, host, links, wrong)
}

fn routed(wanted: &Wanted, host: &Link, inner: Option<kernel::Mac>, wrong: &mut Wrong) -> Result<(), Error> {
    let routes = Routes::open()?.list(None, Some(crate::PROTOCOL))?;
    for route in make::host_routes(wanted, host.index) {
        wrong.unless(routes.iter().any(|found| leads_as(found, &route)), || {
            format!("the node's route to {} is missing", route.destination)
        });
    }
    let neighbours = Neighbours::open()?.list(host.index)?;
    for assigned in &wanted.addresses {
        let address: IpAddr = assigned.address.addr();
        let knows = neighbours.iter().any(|n| n.address == address && Some(n.mac) == inner);
        wrong.unless(knows || inner.is_none(), || {
            format!("the node does not know the pod's hardware address for {address}")
        });
    }
    for (family, parameter, value) in make::host_parameters(wanted) {
        let is_so = sysctl::get_of_link(family, &host.name, parameter).is_ok_and(|found| found == value);
        // Where there is no IPv6, nothing is to be said about it.
        let matters = parameter == "forwarding";
        wrong.unless(is_so || !matters, || format!("{parameter} of {} is not {value}", host.name));
    }
    Ok(())
}

fn bridged(
    wanted: &Wanted,
    host: &Link,
    bridge: &Link,
    links: &mut Links,
    wrong: &mut Wrong,
) -> Result<(), Error> {
    let (name, port) = (&bridge.name, &host.name);
    wrong.unless(bridge.up, || format!("bridge {name} is down"));
    wrong.unless(host.master == Some(bridge.index), || format!("{port} is no port of bridge {name}"));
    let found = links.addresses()?;
    for gateway in bridge::gateways(wanted) {
        let is_there = found.iter().any(|found| found.link == bridge.index && bridge::is(found, gateway));
        wrong.unless(is_there, || format!("bridge {name} has no longer the address {gateway}"));
    }
    Ok(())
}

fn limits(wanted: &Wanted, host: &Link, links: &mut Links, wrong: &mut Wrong) -> Result<(), Error> {
    let (receives, sends) = bandwidth::buckets(wanted, host.mtu);
    if receives.is_none() && sends.is_none() {
        return Ok(());
    }
    let mut qdiscs = Qdiscs::open()?;
    if let Some(bucket) = receives {
        let limited = is_limited(&mut qdiscs, host.index, bucket)?;
        wrong.unless(limited, || "what the pod receives is not limited as it is to be".to_owned());
    }
    if let Some(bucket) = sends {
        let ifb = links.find(&names::ifb_name(&wanted.host_interface))?.filter(|link| link.up);
        let limited = match ifb {
            Some(ifb) => {
                qdiscs.redirected_to(host.index)? == Some(ifb.index)
                    && is_limited(&mut qdiscs, ifb.index, bucket)?
            }
            None => false,
        };
        wrong.unless(limited, || "what the pod sends is not limited as it is to be".to_owned());
    }
    Ok(())
}

fn is_limited(qdiscs: &mut Qdiscs, link: u32, wanted: Bucket) -> Result<bool, Error> {
    let is_it = |kind: &QdiscKind| match kind {
        QdiscKind::Bucket { rate, burst } => {
            let wanted_burst = u64::from(wanted.burst);
            *rate == wanted.rate && burst.abs_diff(wanted_burst) <= wanted_burst / ROUNDED
        }
        QdiscKind::Ingress | QdiscKind::Other(_) => false,
    };
    Ok(qdiscs.list(link)?.iter().any(|qdisc| qdisc.is_root && is_it(&qdisc.kind)))
}
