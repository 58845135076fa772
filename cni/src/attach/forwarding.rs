//! The node forwards what pods send and receive.

use kernel::link::Links;
use kernel::route::Family;
use kernel::sysctl;

use super::{Error, Wanted};

/// Has the node forward packets of the pod's families.
pub(super) fn allow(wanted: &Wanted, links: &mut Links) -> Result<(), Error> {
    if wanted.has_family(Family::V4) {
        sysctl::set("net.ipv4.ip_forward", "1")?;
    }
    const FORWARDING: &str = "net.ipv6.conf.all.forwarding";
    if wanted.has_family(Family::V6) && sysctl::get(FORWARDING)? != "1" {
        keep_router_advertisements(links)?;
        sysctl::set(FORWARDING, "1")?;
    }
    Ok(())
}

/// A host that forwards no longer listens to routers: one that has its default route from them would lose it when that
/// expires, half an hour later. Devices that listen now are told to do so all the same.
fn keep_router_advertisements(links: &mut Links) -> Result<(), Error> {
    for link in links.list()? {
        let listens =
            sysctl::get_of_link(Family::V6, &link.name, "accept_ra").is_ok_and(|value| value == "1");
        if listens {
            sysctl::set_of_link(Family::V6, &link.name, "accept_ra", "2")?;
        }
    }
    Ok(())
}

/// Sets parameters of a device. Those of IPv6 are left out where there is no IPv6.
pub(super) fn set_all(link: &str, parameters: &[(Family, &str, &str)]) -> Result<(), Error> {
    for (family, name, value) in parameters {
        if *family == Family::V6 && sysctl::get_of_link(*family, link, name).is_err() {
            continue;
        }
        sysctl::set_of_link(*family, link, name, value)?;
    }
    Ok(())
}
