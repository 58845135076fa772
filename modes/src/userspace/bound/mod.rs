//! Bound entry: each service port is at a local port, for whoever works on this machine. Takes no privileges.
//!
//! There are no rules and the kernel holds nothing of ours but sockets, so there is nothing to read back either. A
//! service port has one local port, the same in both families and in the next process; `assigned` tells which. Where
//! it has no endpoints for traffic to the ClusterIP, nobody listens, so that connections are refused, but the port
//! stays its own.

mod assigned;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use endpoint_cache::{
    Delta, Desired, Endpoint, Family, ServicePort, ServicePortName, Traffic, TrafficPolicy,
};

use self::assigned::Assigned;
use self::file::PortsFile;
use super::Notices;
use super::forward::{Forwarder, OpenError, SourceAddress, Target, TargetKey};
use super::targets::is_carried;
use crate::{Disturbance, Error, Mode, Report, Watch};

/// What bound entry is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen: the last address of each family. A family without one is not served.
    pub addresses: Vec<IpAddr>,
    /// Where it is kept which local port each service port has; `None` for nowhere.
    pub ports_file: Option<PathBuf>,
}

/// userspace mode without any rules.
pub struct Bound {
    forwarder: Arc<Forwarder>,
    addresses: BTreeMap<Family, IpAddr>,
    assigned: Assigned,
    file: Option<PortsFile>,
    places: BTreeMap<Arc<ServicePortName>, Place>,
    notices: Notices,
    /// Whether there was a sync.
    synced: bool,
}

/// A service port, in the families that it is served in.
#[derive(Default)]
struct Place {
    /// As it is to be.
    services: BTreeMap<Family, Arc<ServicePort>>,
    /// As it is listened for.
    open: BTreeMap<Family, Arc<ServicePort>>,
}

impl Bound {
    /// A mode that listens nowhere yet.
    ///
    /// # Errors
    /// When this machine has none of the addresses.
    pub fn new(forwarder: Arc<Forwarder>, options: Options) -> Result<Self, Error> {
        let file = options.ports_file.map(PortsFile::at);
        let known = file.as_ref().map(PortsFile::read).unwrap_or_default();
        Ok(Self {
            forwarder,
            addresses: usable(&options.addresses)?,
            assigned: Assigned::new(known),
            file,
            places: BTreeMap::new(),
            notices: Notices::default(),
            synced: false,
        })
    }

    /// Brings a service port to what it is to be. Returns how many targets changed.
    fn settle(&mut self, name: &Arc<ServicePortName>) -> Result<usize, Error> {
        let Some(mut place) = self.places.remove(name) else { return Ok(0) };
        let mut changed = self.close(name, &mut place);
        if place.services.is_empty() {
            self.assigned.release(name);
            return Ok(changed);
        }
        let opened = self.open(name, &mut place);
        self.places.insert(Arc::clone(name), place);
        changed += opened?;
        Ok(changed)
    }

    /// Closes targets without endpoints, and changes those that have others now.
    fn close(&self, name: &Arc<ServicePortName>, place: &mut Place) -> usize {
        let before = std::mem::take(&mut place.open);
        let mut changed = 0;
        for (family, was) in before {
            let key = key(name, family);
            let Some((service, endpoints)) = place.services.get(&family).and_then(served) else {
                self.forwarder.close(&key);
                changed += 1;
                continue;
            };
            if !is_same(&was, service) {
                self.forwarder.change(&key, &target(service, endpoints));
                changed += 1;
            }
            place.open.insert(family, Arc::clone(service));
        }
        changed
    }

    /// Opens targets that have endpoints now. If another program has the port, it is another one in both families.
    fn open(&mut self, name: &Arc<ServicePortName>, place: &mut Place) -> Result<usize, Error> {
        let Some(own) = place.services.values().next().map(|service| service.port) else { return Ok(0) };
        let mut opened = 0;
        loop {
            let Some(port) = self.assigned.assign(name, own) else {
                tracing::warn!("no local port is free for {name} ({}): it cannot be reached", name.protocol);
                break;
            };
            let waiting = self.addresses.iter().find_map(|(family, address)| {
                let service = place.services.get(family).filter(|_| !place.open.contains_key(family))?;
                Some((*family, *address, served(service)?))
            });
            let Some((family, address, (service, endpoints))) = waiting else { break };
            let address = SocketAddr::new(address, port);
            match self.forwarder.open(key(name, family), address, &target(service, endpoints)) {
                Ok(()) => {
                    place.open.insert(family, Arc::clone(service));
                    opened += 1;
                }
                Err(OpenError::InUse(_)) => {
                    for family in std::mem::take(&mut place.open).into_keys() {
                        self.forwarder.close(&key(name, family));
                    }
                    let other = self.assigned.refuse(name, port);
                    let other = other.map_or("nowhere".to_owned(), |other| format!("at port {other}"));
                    tracing::warn!(
                        "another program listens on {address}: {name} ({}) is {other} instead",
                        name.protocol
                    );
                }
                Err(cause) => return Err(Error::Listen { service: name.to_string(), cause }),
            }
        }
        Ok(opened)
    }

    /// Settles these, whatever becomes of any of them; then writes down who has which port.
    fn settle_all(&mut self, names: impl IntoIterator<Item = Arc<ServicePortName>>) -> Result<Report, Error> {
        let (mut report, mut failed) = (Report::default(), None);
        for name in names {
            match self.settle(&name) {
                Ok(changed) => report.operations += changed,
                Err(error) => failed = Some(error),
            }
        }
        if self.assigned.take_changed()
            && let Some(file) = &mut self.file
        {
            file.write(self.assigned.all());
        }
        failed.map_or(Ok(report), Err)
    }
}

impl Mode for Bound {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        self.places.values_mut().for_each(|place| place.services.clear());
        for service in desired.service_ports.iter().filter(|service| is_carried(service)) {
            let place = self.places.entry(Arc::clone(&service.name)).or_default();
            place.services.insert(service.family, Arc::clone(service));
        }
        let places = &self.places;
        self.assigned.retain(|name| places.get(name).is_some_and(|place| !place.services.is_empty()));
        // What goes first makes room for what comes.
        let (stay, go): (Vec<_>, Vec<_>) =
            self.places.keys().cloned().partition(|name| !self.places[name].services.is_empty());
        let mut report = self.settle_all(go.into_iter().chain(stay))?;
        report.notices = self.notices.of_all(desired);
        if !std::mem::replace(&mut self.synced, true) {
            let addresses: Vec<_> = self.addresses.values().map(ToString::to_string).collect();
            let addresses = addresses.join(" and ");
            tracing::info!(
                "Services are to be reached on {addresses}: pointsman status shows at which ports"
            );
        }
        Ok(report)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        if !self.synced {
            return Err(Error::NotSynced);
        }
        // In the delta's order: what goes makes room for what comes.
        let mut touched = Vec::new();
        let mut seen = BTreeSet::new();
        for change in &delta.changes {
            let Some(service) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            if !is_carried(service) {
                continue;
            }
            let place = self.places.entry(Arc::clone(&service.name)).or_default();
            match &change.after {
                Some(after) => place.services.insert(service.family, Arc::clone(after)),
                None => place.services.remove(&service.family),
            };
            if seen.insert(Arc::clone(&service.name)) {
                touched.push(Arc::clone(&service.name));
            }
        }
        let mut report = self.settle_all(touched)?;
        report.notices = self.notices.of_changes(delta);
        Ok(report)
    }

    fn rehearse(&mut self, _desired: &Desired) -> Result<(), Error> {
        Ok(())
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        Ok(Box::new(Undisturbed))
    }
}

/// Nobody can change what is only in this process.
struct Undisturbed;

impl Watch for Undisturbed {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        loop {
            thread::park();
        }
    }
}

/// The addresses that this machine has, by family. It may have no IPv6, for one.
fn usable(addresses: &[IpAddr]) -> Result<BTreeMap<Family, IpAddr>, Error> {
    let (mut usable, mut refused) = (BTreeMap::new(), None);
    let last: BTreeMap<_, _> = addresses.iter().map(|address| (Family::of(*address), *address)).collect();
    for (family, address) in last {
        match UdpSocket::bind((address, 0)) {
            Ok(_) => _ = usable.insert(family, address),
            Err(cause) => {
                tracing::warn!("cannot listen on {address}: {cause}; {family} Services are not served");
                refused = Some(OpenError::Io { address: (address, 0).into(), cause });
            }
        }
    }
    match refused {
        Some(error) if usable.is_empty() => Err(Error::NoAddress(error)),
        _ => Ok(usable),
    }
}

/// A service port with the endpoints that it is to be served by, if there are any.
fn served(service: &Arc<ServicePort>) -> Option<(&Arc<ServicePort>, &Arc<[Endpoint]>)> {
    let endpoints = match service.internal_policy {
        TrafficPolicy::Cluster => &service.cluster_endpoints,
        TrafficPolicy::Local => &service.local_endpoints,
    };
    matches!(service.internal_traffic(), Traffic::To(_)).then_some((service, endpoints))
}

/// There is one target in a family, whatever the policy of the day.
fn key(name: &Arc<ServicePortName>, family: Family) -> TargetKey {
    TargetKey { name: Arc::clone(name), family, policy: TrafficPolicy::Cluster }
}

fn target(service: &ServicePort, endpoints: &Arc<[Endpoint]>) -> Target {
    Target {
        endpoints: Arc::clone(endpoints),
        serving: Arc::clone(&service.serving_endpoints),
        affinity: service.affinity_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        proxy_protocol: service.proxy_protocol,
        source: SourceAddress::Node,
    }
}

/// Whether both make the same target.
fn is_same(a: &Arc<ServicePort>, b: &Arc<ServicePort>) -> bool {
    let endpoints = |service| served(service).map(|(_, endpoints)| endpoints);
    endpoints(a) == endpoints(b)
        && a.serving_endpoints == b.serving_endpoints
        && a.affinity_seconds == b.affinity_seconds
        && a.proxy_protocol == b.proxy_protocol
}
