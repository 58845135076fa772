//! The bridge that pods on a node are ports of.

use std::net::IpAddr;

use ipnet::IpNet;
use kernel::link::{Address, Assignment, Link, LinkChange, Links, NewBridge};
use kernel::route::Family;

use super::pod::family_of;
use super::{Error, Wanted, forwarding, names, settle};

const KIND: &str = "bridge";
/// By which we know our own. Others' bridges are used as they are.
const ALIAS: &str = "pointsman: pods of this node";

/// The bridge, which is made if it is not there, with the gateways of the pod's addresses.
pub(super) fn ensure(
    wanted: &Wanted,
    name: &str,
    promiscuous: bool,
    links: &mut Links,
) -> Result<Link, Error> {
    let failed = |why: String| Error::Bridge { bridge: name.to_owned(), why };
    let bridge = match links.find(name)? {
        Some(found) => found,
        None => make(wanted, name, links)?,
    };
    if bridge.kind.as_deref() != Some(KIND) {
        let kind = bridge.kind.as_deref().unwrap_or("real or loopback");
        return Err(failed(format!("a {kind} device has that name")));
    }
    let gateways = gateways(wanted);
    if !gateways.is_empty() {
        let found: Vec<_> =
            links.addresses()?.into_iter().filter(|address| address.link == bridge.index).collect();
        let is_ours = bridge.alias.as_deref() == Some(ALIAS);
        gateways.iter().try_for_each(|gateway| fits(*gateway, &found, is_ours)).map_err(failed)?;
        let missing = gateways.iter().filter(|gateway| !found.iter().any(|found| is(found, **gateway)));
        let assignment =
            |address: &IpNet| Assignment { link: bridge.index, address: *address, on_link: true };
        links.assign(&missing.map(assignment).collect::<Vec<_>>())?;
    }
    let change = LinkChange {
        up: (!bridge.up).then_some(true),
        promiscuous: (promiscuous && !bridge.promiscuous).then_some(true),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.promiscuous.is_some() {
        links.change(bridge.index, &change)?;
    }
    Ok(bridge)
}

fn make(wanted: &Wanted, name: &str, links: &mut Links) -> Result<Link, Error> {
    let gateways: Vec<String> = gateways(wanted).iter().map(ToString::to_string).collect();
    // Another one on every node, and the same whenever it is made again.
    let words: Vec<&str> = [name].into_iter().chain(gateways.iter().map(String::as_str)).collect();
    let made = links.make_bridge(&NewBridge { name, mtu: wanted.mtu, mac: names::mac(&words) });
    let missing = || kernel::Error::Malformed("a bridge that was made is not listed");
    let bridge = match (made, links.find(name)?) {
        (Ok(()), found) => found.ok_or_else(missing)?,
        // Another pod's request made it meanwhile.
        (Err(_), Some(found)) => return Ok(found),
        (Err(error), None) => return Err(error.into()),
    };
    links.change(bridge.index, &LinkChange { alias: Some(ALIAS), ..LinkChange::default() })?;
    forwarding::set_all(name, &[(Family::V6, "accept_ra", "0"), (Family::V6, "accept_dad", "0")])?;
    Ok(Link { alias: Some(ALIAS.to_owned()), ..bridge })
}

/// The bridge's addresses that the pod needs, each with its range's prefix.
pub(super) fn gateways(wanted: &Wanted) -> Vec<IpNet> {
    let gateway = |gateway: IpAddr, prefix| IpNet::new(gateway, prefix).ok();
    let mut gateways: Vec<IpNet> = Vec::new();
    for assigned in &wanted.addresses {
        let found = assigned.gateway.and_then(|address| gateway(address, assigned.address.prefix_len()));
        gateways.extend(found.filter(|found| !gateways.contains(found)));
    }
    gateways
}

/// Whether a device's address is the one.
pub(super) fn is(found: &Address, wanted: IpNet) -> bool {
    found.address == wanted.addr() && found.prefix == wanted.prefix_len()
}

/// Whether a gateway can be had beside the addresses that are there. A bridge of others has one range of IPv4; a node's
/// range may have changed, so ours may have several. Ranges never overlap: who is on the link would be a matter of luck.
fn fits(gateway: IpNet, found: &[Address], is_ours: bool) -> Result<(), String> {
    for other in found.iter().filter(|other| !other.link_local_scope && !is(other, gateway)) {
        let Ok(net) = IpNet::new(other.address, other.prefix) else { continue };
        if family_of(other.address) != family_of(gateway.addr()) {
            continue;
        }
        let overlaps = net.contains(&gateway.network()) || gateway.contains(&net.network());
        if overlaps || (other.address.is_ipv4() && !is_ours) {
            return Err(format!(
                "it has the address {net}, and pods need it to have {gateway}: remove that address, or the bridge \
                 when no pod uses it, or let the network have another bridge"
            ));
        }
    }
    Ok(())
}

/// Waits until frames pass a port, and the bridge takes notice of having one.
pub(super) fn await_port(bridge: &Link, port: u32, links: &mut Links) -> Result<(), Error> {
    settle::until(
        || format!("forwarding by the port of bridge {}", bridge.name),
        || {
            let link = links.get(port)?;
            Ok(link.and_then(|link| link.port).is_some_and(|port| port.forwarding))
        },
    )?;
    settle::until(
        || format!("the carrier of bridge {}", bridge.name),
        || Ok(links.get(bridge.index)?.is_some_and(|link| link.operating)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let net: IpNet = text.parse().unwrap();
        Address { link: 1, address: net.addr(), prefix: net.prefix_len(), link_local_scope: false }
    }

    #[test]
    fn a_bridge_of_others_has_one_range_of_ipv4() {
        let gateway = "10.1.0.1/24".parse().unwrap();
        assert!(fits(gateway, &[address("10.1.0.1/24"), address("fd00::1/64")], false).is_ok());
        let said = fits(gateway, &[address("10.2.0.1/24")], false).unwrap_err();
        assert!(said.contains("10.2.0.1/24") && said.contains("10.1.0.1/24"), "{said}");
    }

    #[test]
    fn ranges_of_ours_may_be_several_but_never_overlap() {
        let gateway = "10.1.0.1/24".parse().unwrap();
        assert!(fits(gateway, &[address("10.2.0.1/24")], true).is_ok());
        assert!(fits(gateway, &[address("10.1.0.2/24")], true).is_err());
        assert!(fits(gateway, &[address("10.0.0.1/8")], true).is_err());
        let v6 = "fd00::1/64".parse().unwrap();
        assert!(fits(v6, &[address("fd00:0:0:1::1/64")], false).is_ok());
        assert!(fits(v6, &[address("fd00::2/64")], false).is_err());
    }
}
