//! Bringing the kernel to what is desired.
//!
//! What is new is made before what it replaces goes, and what leads to a device comes before the route by it: forwarding
//! entry, neighbour, route; the other way round when something goes. So a change of a node, or of how all of them are
//! reached, loses no packet.
//!
//! Ours are: the routes of our [protocol](crate::PROTOCOL) in the main table that have a gateway or lead nowhere (those of
//! pods have neither, and are the plugin's), all that is on our VXLAN devices, and our tables. Nothing else is touched: where
//! somebody else has a route to the same range, ours is refused, and told of.

mod devices;
mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::link::Links;
use kernel::neighbour::Neighbours;
use kernel::route::{MAIN, Route, RouteEdit, Routes};

use self::entries::Entries;
use super::desired::{Delta, Desired, Way};
use super::masquerade::{Masquerader, Tool};
use super::monitor::{Expected, Monitor};
use super::settings::{Interface, Settings};
use super::uplink::{Surroundings, Uplink};
use super::{bird, masquerade};
use crate::PROTOCOL;

/// Why the kernel is not as desired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or could not be read.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A change came before the first sync, or after a failed one.
    #[error("nothing is known of what is programmed: a full sync must come first")]
    NotSynced,
    /// The device that leads to the other nodes is not there.
    #[error("no device leads to the other nodes: {0}")]
    NoUplink(String),
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices, addresses, routes, neighbours, forwarding entries, parameters and rules written or removed. 0 when
    /// everything was right already.
    pub operations: usize,
    /// What the kernel refused, in words, of each destination: the others are as desired.
    pub refused: Vec<(IpNet, String)>,
}

/// Puts what is desired into the kernel. Used by one thread, in the network namespace that it is of.
pub struct Applier {
    settings: Settings,
    links: Links,
    routes: Routes,
    neighbours: Neighbours,
    /// Opened when there is something to masquerade: not every kernel has it.
    masquerade: Option<Tool>,
    masquerader: Masquerader,
    expected: Arc<Mutex<Expected>>,
    /// `None` until the first sync, and after one that failed.
    synced: Option<Synced>,
}

/// What the last sync left.
#[derive(Default)]
struct Synced {
    /// Indexes of the VXLAN devices.
    devices: BTreeMap<Family, u32>,
    /// Destinations that somebody else has a route to.
    blocked: BTreeSet<IpNet>,
}

impl Applier {
    /// Opens the ways to the kernel; changes nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses the sockets.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Self {
            settings,
            links: Links::open()?,
            routes: Routes::open()?,
            neighbours: Neighbours::open()?,
            masquerade: None,
            masquerader: Masquerader::Auto,
            expected: Arc::default(),
            synced: None,
        })
    }

    /// The devices that lead to the other nodes, as [`Settings::interface`] says. A family that has none is left out.
    /// `node` are the own Node's addresses.
    ///
    /// # Errors
    /// [`Error::NoUplink`] when there is none at all; when the kernel cannot be read.
    pub fn uplinks(&mut self, node: &[IpAddr]) -> Result<BTreeMap<Family, Uplink>, Error> {
        let reaching = match self.settings.interface {
            Interface::Reaching(to) => self.routes.way(to, 0)?.map(|way| way.link),
            _ => None,
        };
        let surroundings = Surroundings {
            links: self.links.list()?,
            addresses: self.links.addresses()?,
            routes: self.routes.list(None, None)?,
            reaching,
        };
        surroundings.uplinks(&self.settings.interface, node).map_err(Error::NoUplink)
    }

    /// What BIRD has learned.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn learned(&mut self) -> Result<BTreeMap<IpNet, Way>, Error> {
        let routes = self.routes.list(None, None)?;
        let learned =
            routes.into_iter().filter(|route| route.table == bird::TABLE && route.protocol == bird::PROTOCOL);
        Ok(learned
            .filter_map(|route| {
                let way = Way::Gateway { address: route.gateway?, link: route.link };
                Some((route.destination, way))
            })
            .collect())
    }

    /// Brings the kernel to what is desired, whatever it holds: the first thing to call, and what to call after anything
    /// failed or somebody else changed what is ours. What is right already is left alone.
    ///
    /// # Errors
    /// When the kernel cannot be read, or a device cannot be made: what does not go by that device is as desired all the
    /// same. See [`Report::refused`].
    pub fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        self.synced = None;
        let families = self.settings.families.len();
        self.expected().set(desired, families);
        let (mut report, mut synced) = (Report::default(), Synced::default());
        report.operations += devices::parameters(desired)?;
        let mut failed = None;
        for (family, tunnel) in &desired.tunnels {
            match devices::ensure(&mut self.links, *family, tunnel) {
                Ok((index, operations)) => {
                    synced.devices.insert(*family, index);
                    report.operations += operations;
                }
                // What goes by other ways still does.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.expected().devices = synced.devices.clone();
        let wanted = Entries::of(desired, &synced.devices);
        let there = self.entries(&synced.devices)?;
        let routes = self.routes.list(None, None)?;
        let (edits, mut sweep) = route_edits(&wanted, &routes, &synced, &mut report);
        // What cannot be made anew for want of a device is left as it is.
        let is_wanted = |destination: &IpNet| {
            desired.ways.contains_key(destination) && !wanted.routes.contains_key(&(*destination, None))
        };
        sweep.retain(|edit| !is_wanted(&edit.route().destination));
        self.run_neighbours(&there.additions(&wanted), &mut report)?;
        self.run_routes(&edits, &mut synced, &mut report)?;
        sweep.retain(|edit| !synced.blocked.contains(&edit.route().destination));
        self.run_routes(&sweep, &mut synced, &mut report)?;
        self.run_neighbours(&there.removals(&wanted), &mut report)?;
        synced.blocked.extend(report.refused.iter().map(|(destination, _)| *destination));
        report.operations += devices::remove_unwanted(&mut self.links, &self.settings, desired)?;
        report.operations += self.resync_masquerade(desired)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.synced = Some(synced);
        Ok(report)
    }

    /// Brings the kernel from what the last call left to `desired`, of which `delta` is what changed.
    ///
    /// # Errors
    /// As [`Applier::resync`], which has to follow then.
    pub fn apply(&mut self, delta: &Delta, desired: &Desired) -> Result<Report, Error> {
        if self.synced.is_none() {
            return Err(Error::NotSynced);
        }
        if delta.devices || delta.own || delta.masquerade {
            // All may go by another device.
            return self.resync(desired);
        }
        let mut synced = self.synced.take().ok_or(Error::NotSynced)?;
        self.expected().change(delta);
        let mut report = Report::default();
        let change = entries::change(delta, desired, &synced.devices);
        self.run_neighbours(&change.additions, &mut report)?;
        let edits = change.routes.into_iter().map(|edit| match edit {
            // What is somebody else's is not replaced.
            RouteEdit::Replace(route) | RouteEdit::Append(route)
                if synced.blocked.contains(&route.destination) =>
            {
                RouteEdit::Create(route)
            }
            edit => edit,
        });
        let edits: Vec<_> = edits.collect();
        self.run_routes(&edits, &mut synced, &mut report)?;
        // What goes stays until what stands in for it is there.
        let refused: BTreeSet<IpNet> = report.refused.iter().map(|(destination, _)| *destination).collect();
        let mut sweep = change.sweep;
        sweep.retain(|edit| !refused.contains(&edit.route().destination));
        self.run_routes(&sweep, &mut synced, &mut report)?;
        self.run_neighbours(&change.removals, &mut report)?;
        if let (Some(masquerade), false) = (&desired.masquerade, delta.nodes.is_empty()) {
            report.operations += self.tool()?.change(masquerade, &delta.nodes)?;
        }
        self.synced = Some(synced);
        Ok(report)
    }

    /// Listens for what others change from now on: one more [`Applier::resync`] is to follow, for what they did until now.
    ///
    /// # Errors
    /// When the kernel cannot be listened to.
    pub fn watch(&mut self) -> Result<Monitor, Error> {
        Monitor::open(self.expected.clone())
    }

    /// Masquerades by something else than [`Masquerader::Auto`], from the next call on.
    pub fn masquerade_by(&mut self, masquerader: Masquerader) {
        self.masquerade = None;
        self.masquerader = masquerader;
    }

    /// Listens for what others change in the tables that masquerade. `None` where there are none: an
    /// [`Applier::resync`] now and then has to do.
    ///
    /// # Errors
    /// When the kernel cannot be listened to.
    pub fn watch_masquerade(&mut self) -> Result<Option<kernel::nft::Monitor>, Error> {
        if self.settings.masquerade.is_none() {
            return Ok(None);
        }
        let Tool::Nftables(connection) = self.tool()? else { return Ok(None) };
        let port = connection.port();
        let tables = Family::BOTH.map(masquerade::table).to_vec();
        Ok(Some(kernel::nft::Monitor::open(tables, port)?))
    }

    /// Other settings, from the next call on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tool(&mut self) -> Result<&mut Tool, Error> {
        match &mut self.masquerade {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(Tool::open(self.masquerader)?)),
        }
    }

    fn resync_masquerade(&mut self, desired: &Desired) -> Result<usize, Error> {
        let wanted = desired.masquerade.as_ref();
        match (wanted, self.tool()) {
            (_, Ok(tool)) => Ok(tool.resync(wanted)?),
            (None, Err(_)) => Ok(0),
            (Some(_), Err(error)) => Err(error),
        }
    }

    /// What our devices have.
    fn entries(&mut self, devices: &BTreeMap<Family, u32>) -> Result<Entries, Error> {
        let mut found = Entries::default();
        for link in devices.values() {
            found.neighbours.extend(
                self.neighbours
                    .list(*link)?
                    .into_iter()
                    .filter(|found| found.permanent)
                    .map(|found| ((found.link, found.address), found.mac)),
            );
            found.forwarding.extend(self.neighbours.forwarding(*link)?);
        }
        Ok(found)
    }

    fn run_neighbours(&mut self, edits: &[entries::Edit], report: &mut Report) -> Result<(), Error> {
        let commands: Vec<_> = edits.iter().map(|edit| edit.edit).collect();
        report.operations += commands.len();
        for (at, error) in self.neighbours.run(&commands)? {
            report.refused.extend(edits.get(at).map(|edit| (edit.destination, error.to_string())));
        }
        Ok(())
    }

    fn run_routes(
        &mut self,
        edits: &[RouteEdit],
        synced: &mut Synced,
        report: &mut Report,
    ) -> Result<(), Error> {
        report.operations += edits.len();
        let (commands, places) = entries::with_scaffold(edits);
        let refused: BTreeMap<usize, kernel::Error> = self.routes.run(&commands)?.into_iter().collect();
        for (at, edit) in places.into_iter().zip(edits) {
            let destination = edit.route().destination;
            match refused.get(&at) {
                Some(error) => {
                    synced.blocked.insert(destination);
                    report.refused.push((destination, error.to_string()));
                }
                None => drop(synced.blocked.remove(&destination)),
            }
        }
        Ok(())
    }
}

/// Whether a route is one of those between nodes: not a pod's, which are the plugin's.
pub(super) fn is_ours(route: &Route, devices: &BTreeMap<Family, u32>) -> bool {
    /// `RTPROT_KERNEL`
    const KERNEL: u8 = 2;
    let by_device = route.protocol != KERNEL && devices.values().any(|device| *device == route.link);
    let between_nodes = route.protocol == PROTOCOL && (route.gateway.is_some() || route.link == 0);
    route.table == MAIN && (by_device || between_nodes)
}

/// What is to be written, and then what is to be swept.
fn route_edits(
    wanted: &Entries,
    found: &[Route],
    synced: &Synced,
    report: &mut Report,
) -> (Vec<RouteEdit>, Vec<RouteEdit>) {
    let mut at: BTreeMap<(IpNet, Option<u32>), Vec<&Route>> = BTreeMap::new();
    for route in found.iter().filter(|route| route.table == MAIN) {
        // IPv4's routes without a metric have 0.
        at.entry((route.destination, route.metric.filter(|metric| *metric != 0))).or_default().push(route);
    }
    let mut edits = Vec::new();
    for route in wanted.routes.values() {
        let there = at.get(&(route.destination, route.metric)).map_or(&[][..], Vec::as_slice);
        if there.contains(&route) {
            continue;
        }
        if let Some(ours) = there.iter().find(|there| is_ours(there, &synced.devices)) {
            edits.push(entries::instead(ours, *route));
        } else if let Some(there) = there.first() {
            report.refused.push((route.destination, format!("there is a {there} of somebody else")));
        } else {
            edits.push(RouteEdit::Create(*route));
        }
    }
    let sweep = |route: &Route| {
        let wanted = wanted.routes.get(&(route.destination, route.metric));
        let is_beside = |wanted: &Route| {
            at.get(&(route.destination, route.metric)).is_some_and(|all| all.contains(&wanted))
        };
        match wanted {
            _ if !is_ours(route, &synced.devices) => None,
            Some(wanted) if wanted == route => None,
            Some(wanted) if !is_beside(wanted) => entries::leftover(*route),
            _ => Some(RouteEdit::Remove(*route)),
        }
    };
    let sweep = found.iter().filter_map(sweep).collect();
    (edits, sweep)
}

/// Removes all that appliers made. True if there was something. Pods' own routes stay.
///
/// # Errors
/// When the kernel refuses, or cannot be read.
pub fn cleanup() -> Result<bool, Error> {
    let (mut links, mut routes) = (Links::open()?, Routes::open()?);
    let mut found = false;
    let ours: Vec<_> = routes
        .list(None, None)?
        .into_iter()
        .filter(|route| is_ours(route, &BTreeMap::new()) || route.table == bird::TABLE)
        .map(RouteEdit::Remove)
        .collect();
    found |= !ours.is_empty();
    if let Some((_, error)) = routes.run(&ours)?.into_iter().next() {
        return Err(error.into());
    }
    for link in links.list()?.iter().filter(|link| devices::is_ours(link)) {
        links.remove(link.index)?;
        found = true;
    }
    found |= masquerade::cleanup()?;
    Ok(found)
}
