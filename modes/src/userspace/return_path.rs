//! How answers to borrowed addresses come back to the forwarder.
//!
//! The forwarder speaks to an endpoint under the client's address, and marks these packets with [`BORROWED`]. Rules note
//! that in the connection's mark, and mark with [`LED_BACK`] what comes in of such a connection. A rule of the routing has
//! a table of its own asked for that, in which every address is this host's. Only single bits are used: all others, of
//! packets and of connections, stay as they are.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use endpoint_cache::Family;
use kernel::iptables::Iptables as Programs;
use kernel::link::Links;
use kernel::nft::Nftables as Connection;
use kernel::route::{Change, LocalRoute, MarkRule, Routes};
use kernel::sysctl;

use super::captured::LedBy;
use super::rules::{self, Tables};
use crate::iptables::Backend;
use crate::{Comparison, Error, Report};

/// Bit of the mark of packets that bear a client's address, and of their connections.
pub const BORROWED: u32 = 0x1000;
/// Bit of the mark of packets that are to be led back.
pub const LED_BACK: u32 = 0x2000;
/// Where every address is this host's.
const TABLE: u32 = 7777;
/// Before all that asks the tables that everybody uses.
const PRIORITY: u32 = 77;

const LOOPBACK: &str = "lo";

/// How often it is looked whether a new address is of use, and how long is waited in between.
const ADDRESS_TRIES: usize = 1000;
const ADDRESS_WAIT: Duration = Duration::from_millis(1);

/// What there is in the kernel besides what the mode for frontends has.
pub(super) struct ReturnPath {
    routes: Routes,
    links: Links,
    pub(super) tables: Tables,
}

impl ReturnPath {
    pub(super) fn open(tables: Tables) -> Result<Self, Error> {
        Ok(Self { routes: Routes::open()?, links: Links::open()?, tables })
    }

    /// Gives this host the address that the forwarder listens on; says whether nobody can be led to it by an earlier
    /// process: it was not there, or has been [handed over](hand_over).
    pub(super) fn take_address(
        &mut self,
        family: Family,
        address: IpAddr,
        report: &mut Report,
    ) -> Result<bool, Error> {
        let loopback = loopback(&mut self.links)?;
        let is_new = self.links.add_passive(loopback, address)?;
        if is_new {
            report.operations += 1;
            self.await_address(address)?;
        }
        // Where there can be no such route, that is told when it is to lead back.
        let route = self.routes.local_route(Change::Add, &local_route(family, loopback));
        let was_handed_over = route.unwrap_or(false);
        report.operations += usize::from(was_handed_over);
        Ok(is_new || was_handed_over)
    }

    /// The kernel goes on with an IPv6 address when it has said that it is there, and nothing tells when it is done.
    fn await_address(&mut self, address: IpAddr) -> Result<(), Error> {
        for _ in 0..ADDRESS_TRIES {
            if self.routes.way(address, 0)?.is_some_and(|way| way.local) {
                break;
            }
            thread::sleep(ADDRESS_WAIT);
        }
        Ok(())
    }

    /// Brings about the way back.
    pub(super) fn lead_back(
        &mut self,
        family: Family,
        address: IpAddr,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.tables.put_right(family, address, report)?;
        if family == Family::V4 && marks_count_for_sources() {
            return Err(Error::MarkedSources);
        }
        let route = local_route(family, loopback(&mut self.links)?);
        report.operations += usize::from(self.routes.local_route(Change::Add, &route)?);
        report.operations += usize::from(self.routes.rule(Change::Add, &mark_rule(family))?);
        Ok(())
    }
}

impl ReturnPath {
    /// Tells what of a family's way back differs from what it should be.
    pub(super) fn compare(
        &mut self,
        family: Family,
        address: IpAddr,
        comparison: &mut Comparison,
    ) -> Result<(), Error> {
        let loopback = loopback(&mut self.links)?;
        let is_ours = |found: &kernel::link::Address| (found.link, found.address) == (loopback, address);
        if !self.links.addresses()?.iter().any(is_ours) {
            comparison.missing(None, || format!("address {address} of device {LOOPBACK}"));
        }
        self.tables.compare(family, address, comparison)?;
        let is_possible = family == Family::V6 || !marks_count_for_sources();
        if is_possible && !is_led_back(&mut self.routes, family)? {
            comparison.missing(None, || {
                format!(
                    "{family} routing rule {PRIORITY}: from all fwmark {LED_BACK:#x}/{LED_BACK:#x} lookup {TABLE}, \
                     with route: local default dev {LOOPBACK} table {TABLE}"
                )
            });
        }
        Ok(())
    }
}

/// Whether the kernel asks by the mark where a source address would be, and would take every endpoint for this host.
fn marks_count_for_sources() -> bool {
    sysctl::get("net.ipv4.conf.all.src_valid_mark").is_ok_and(|value| value.trim() == "1")
}

fn loopback(links: &mut Links) -> Result<u32, Error> {
    Ok(links.find(LOOPBACK)?.ok_or(Error::NoLoopback)?.index)
}

fn kernel_family(family: Family) -> kernel::route::Family {
    match family {
        Family::V4 => kernel::route::Family::V4,
        Family::V6 => kernel::route::Family::V6,
    }
}

fn mark_rule(family: Family) -> MarkRule {
    let family = kernel_family(family);
    MarkRule { family, priority: PRIORITY, mark: LED_BACK, mask: LED_BACK, table: TABLE }
}

fn local_route(family: Family, link: u32) -> LocalRoute {
    LocalRoute { family: kernel_family(family), table: TABLE, link }
}

/// Removes the rules of this mode, but for those beside the mode that leads here now; says how many tables and chains.
pub(super) fn remove_rules(kept: Option<LedBy>) -> Result<usize, Error> {
    let mut removed = 0;
    for backend in Backend::BOTH.into_iter().filter(|backend| kept != Some(LedBy::Iptables(Some(*backend)))) {
        for family in Family::BOTH {
            if !backend.has_tables(family == Family::V6)? {
                continue;
            }
            match Programs::find(backend, family == Family::V6) {
                Ok(programs) => removed += rules::remove_chains(&programs)?,
                Err(kernel::Error::NoProgram { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    if kept == Some(LedBy::Nftables) {
        return Ok(removed);
    }
    match Connection::open().map_err(Error::from).and_then(|mut nft| rules::remove_tables(&mut nft)) {
        Err(Error::Kernel(kernel::Error::Unsupported { .. })) => Ok(removed),
        tables => Ok(removed + tables?),
    }
}

/// Removes the rules of the routing and the routes, by which the next process knows that nothing leads to the forwarder's
/// addresses any more; says how many there were.
///
/// The addresses stay for it. When one goes, the kernel forgets the connections that are masqueraded as it, but takes its
/// time (`nf_nat_masquerade`): it would forget those too that come when the next process has the address.
pub(super) fn hand_over() -> Result<usize, Error> {
    match Links::open()?.find(LOOPBACK)? {
        Some(loopback) => remove_routing(loopback.index),
        None => Ok(0),
    }
}

fn remove_routing(loopback: u32) -> Result<usize, Error> {
    let (mut removed, mut routes) = (0, Routes::open()?);
    for family in Family::BOTH {
        removed += gone(routes.rule(Change::Remove, &mark_rule(family)))?;
        removed += gone(routes.local_route(Change::Remove, &local_route(family, loopback)))?;
    }
    Ok(removed)
}

/// Removes the rules of the routing, the routes, and these addresses; says how many there were. To be called when nothing
/// leads to the forwarder any more.
pub(super) fn remove(addresses: &[IpAddr]) -> Result<usize, Error> {
    let mut links = Links::open()?;
    let Some(loopback) = links.find(LOOPBACK)? else { return Ok(0) };
    let mut removed = remove_routing(loopback.index)?;
    let ours =
        |found: &kernel::link::Address| found.link == loopback.index && addresses.contains(&found.address);
    for address in links.addresses()?.into_iter().filter(ours) {
        let edit = kernel::link::AddressEdit { link: loopback.index, add: false, address: address.address };
        links.run(&[edit])?;
        removed += 1;
    }
    Ok(removed)
}

/// A family that the kernel lacks has nothing to remove.
fn gone(removed: Result<bool, kernel::Error>) -> Result<usize, Error> {
    match removed {
        Ok(removed) => Ok(usize::from(removed)),
        Err(error) if error.lacks_family() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Looks whether marked packets are led back, and addresses are here.
pub(super) struct Probe {
    routes: Routes,
}

impl Probe {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self { routes: Routes::open()? })
    }

    /// Whether packets to an address are for this host.
    pub(super) fn is_here(&mut self, address: IpAddr) -> Result<bool, Error> {
        Ok(self.routes.way(address, 0)?.is_some_and(|way| way.local))
    }

    /// Whether packets to anybody are led back, once they are marked.
    pub(super) fn is_led_back(&mut self, family: Family) -> Result<bool, Error> {
        is_led_back(&mut self.routes, family)
    }
}

fn is_led_back(routes: &mut Routes, family: Family) -> Result<bool, Error> {
    // Addresses for documentation (RFC 5737, RFC 3849).
    let anybody: IpAddr = match family {
        Family::V4 => [192, 0, 2, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    Ok(routes.way(anybody, LED_BACK)?.is_some_and(|way| way.local))
}
