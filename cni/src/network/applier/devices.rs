//! The VXLAN devices, and the kernel's parameters.

use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::link::{Assignment, Link, LinkChange, Links, Vxlan};
use kernel::{Error, sysctl};

use crate::network::desired::{Desired, Tunnel};
use crate::network::settings::Settings;

/// What the names of VXLAN devices begin with; the number of the network follows.
const NAMES: [&str; 2] = ["flannel.", "flannel-v6."];

/// Whether a device has a name of ours, and is of VXLAN.
pub(super) fn is_ours(link: &Link) -> bool {
    let number = NAMES.iter().find_map(|name| link.name.strip_prefix(name));
    number.is_some_and(|number| number.parse::<u32>().is_ok()) && link.kind.as_deref() == Some("vxlan")
}

/// Has this host forward packets between its devices; returns how much was written.
pub(super) fn parameters(desired: &Desired) -> Result<usize, Error> {
    let mut written = 0;
    for (family, uplink) in &desired.uplinks {
        if !desired.own.contains_key(family) {
            continue;
        }
        match family {
            Family::V4 => {
                written += usize::from(sysctl::set("net.ipv4.ip_forward", "1")?);
                if desired.tunnels.contains_key(family) {
                    written += loosen(&uplink.name)?;
                }
            }
            Family::V6 => {
                // A host that forwards no longer takes routers' advertisements, unless it is told to do so all the same.
                let accepts = sysctl::get_of_link(kernel::route::Family::V6, &uplink.name, "accept_ra")?;
                if accepts == "1" {
                    written += set(*family, &uplink.name, "accept_ra", "2")?;
                }
                written += usize::from(sysctl::set("net.ipv6.conf.all.forwarding", "1")?);
            }
        }
    }
    Ok(written)
}

fn set(family: Family, link: &str, name: &str, value: &str) -> Result<usize, Error> {
    sysctl::set_of_link(kernel_family(family), link, name, value).map(usize::from)
}

fn kernel_family(family: Family) -> kernel::route::Family {
    match family {
        Family::V4 => kernel::route::Family::V4,
        Family::V6 => kernel::route::Family::V6,
    }
}

/// Makes a device unless it is there, and has it as it should be; returns its index and how much was written.
pub(super) fn ensure(links: &mut Links, family: Family, tunnel: &Tunnel) -> Result<(u32, usize), Error> {
    let how = Vxlan {
        vni: tunnel.vni,
        port: tunnel.port,
        local: Some(tunnel.local),
        underlay: tunnel.underlay,
        learning: false,
        special: false,
    };
    let (mut link, mut written) = match links.find_vxlan(&tunnel.name)? {
        Some((link, Some(found))) if found == how => (link, 0),
        found => {
            if let Some((other, _)) = found {
                tracing::info!(device = tunnel.name, kind = ?other.kind, "a device that is not as it should be is replaced");
                links.remove(other.index)?;
            }
            links.make_vxlan(&tunnel.name, tunnel.mac, tunnel.mtu, &how)?;
            let made = links.find(&tunnel.name)?;
            (made.ok_or(Error::Malformed("a device that was made is not listed"))?, 1)
        }
    };
    // Before it is up, so that nothing comes of advertisements.
    if sysctl::get_of_link(kernel::route::Family::V6, &tunnel.name, "accept_ra").is_ok() {
        written += set(Family::V6, &tunnel.name, "accept_ra", "0")?;
    }
    if family == Family::V4 {
        written += loosen(&tunnel.name)?;
    }
    let change = LinkChange {
        up: (!link.up).then_some(true),
        mtu: (link.mtu != tunnel.mtu).then_some(tunnel.mtu),
        mac: (link.mac != Some(tunnel.mac)).then_some(tunnel.mac),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.mtu.is_some() || change.mac.is_some() {
        links.change(link.index, &change)?;
        written += 1;
        link.up = true;
    }
    written += ensure_address(links, link.index, tunnel.address)?;
    Ok((link.index, written))
}

/// While nodes go over from one way to another, packets come by one and go by the other: a strict filter of return paths
/// would drop them.
fn loosen(link: &str) -> Result<usize, Error> {
    const STRICT: &str = "1";
    let all = sysctl::get("net.ipv4.conf.all.rp_filter")?;
    let own = sysctl::get_of_link(kernel::route::Family::V4, link, "rp_filter")?;
    // The greater of the two counts.
    if own == STRICT || all == STRICT && own == "0" { set(Family::V4, link, "rp_filter", "2") } else { Ok(0) }
}

/// One address: the kernel speaks from it to pods of other nodes.
fn ensure_address(links: &mut Links, link: u32, wanted: IpAddr) -> Result<usize, Error> {
    let found: Vec<_> = links
        .addresses()?
        .into_iter()
        .filter(|found| found.link == link && !found.link_local_scope)
        .collect();
    let single = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let is_wanted = |address: IpAddr, prefix: u8| address == wanted && prefix == single(wanted);
    let mut written = 0;
    if !found.iter().any(|found| is_wanted(found.address, found.prefix)) {
        links.assign(&[Assignment { link, address: IpNet::from(wanted), on_link: false }])?;
        written += 1;
    }
    for other in found.iter().filter(|found| !is_wanted(found.address, found.prefix)) {
        if let Ok(address) = IpNet::new(other.address, other.prefix) {
            written += usize::from(links.unassign(link, address)?);
        }
    }
    Ok(written)
}

/// Removes the devices that nobody needs any longer; returns how many.
pub(super) fn remove_unwanted(
    links: &mut Links,
    settings: &Settings,
    desired: &Desired,
) -> Result<usize, Error> {
    // Without uplinks nothing is known of what is needed.
    if desired.uplinks.is_empty() {
        return Ok(0);
    }
    let mut removed = 0;
    for (family, name) in Family::BOTH.into_iter().zip(NAMES) {
        if desired.tunnels.contains_key(&family) {
            continue;
        }
        let found = links.find(&format!("{name}{}", settings.vni))?;
        if let Some(link) = found.filter(is_ours) {
            links.remove(link.index)?;
            removed += 1;
        }
    }
    Ok(removed)
}
