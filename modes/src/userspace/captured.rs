//! The captured entry: the kernel leads service traffic to the forwarder.
//!
//! # Theory of operation
//!
//! Another mode, nftables or iptables, does all that has to do with frontends: who may connect, what is refused or
//! dropped, which policy counts. It is told of one endpoint for each policy of a service port: a place of the forwarder's
//! own (`targets`). So it translates a client's packets to there, and conntrack translates the answers back. A change of
//! endpoints is the forwarder's business alone, and the kernel hears nothing of it.
//!
//! The forwarder listens on an address of this host that nobody else uses, on `lo`, each target at a [port](Ports) of its
//! own. It connects to endpoints under the client's address where answers are sure to come back (`sources`), by way of
//! some rules and a routing table (`return_path`).

mod cleanup;
mod compare;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::{Change, Delta, Desired, Family, Protocol, ServicePort, ServicePortName};
use kernel::nft::Nftables as Connection;

pub use self::cleanup::{cleanup, retire_rules};
use super::forward::{self, Forwarder, OpenError, SourceAddress, Target, TargetKey};
use super::notices::Notices;
use super::ports::Ports;
use super::return_path::{self, ReturnPath};
pub use super::return_path::{BORROWED, LED_BACK};
use super::rules::Tables;
use super::sources::Sources;
use super::targets::{self, Kept, Wanted};
use super::watch::{self, InPlace};
use crate::iptables::{Backend, Iptables};
use crate::nftables::Nftables;
use crate::{Comparison, Error, Mode, Report, Settings, Watch};

/// How many ports are tried if other programs have them.
const TRIES: usize = 16;

/// Where the forwarder listens if nobody says otherwise.
pub const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 112, 77)),
    IpAddr::V6(Ipv6Addr::new(0xfd70, 0x6f69, 0x6e74, 0, 0, 0, 0, 1)),
];

/// How long connections may go on when the process is asked to end, how long it may take until the last of them has been
/// taken on, and how often it is looked whether they have ended.
const FINISHING: Duration = Duration::from_secs(2);
const TAKING_ON: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(10);

/// Ports that anybody may listen on.
pub const PORTS: RangeInclusive<u16> = 1024..=65_535;

/// Which mode leads traffic to the forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedBy {
    /// The nftables mode.
    Nftables,
    /// The iptables mode, on a back end, or the one that the node uses.
    Iptables(Option<Backend>),
}

/// What only this entry can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of the forwarder. Its mark is this mode's to choose.
    pub forward: forward::Options,
    /// Addresses that the forwarder listens on: the first of each family; [`ADDRESSES`] where there is none
    /// (`--userspace-capture-addresses`).
    pub addresses: Vec<IpAddr>,
    /// Ports that it listens on (`--proxy-port-range`).
    pub ports: RangeInclusive<u16>,
}

/// Userspace mode with the captured entry.
pub struct Captured {
    inner: Box<dyn Mode>,
    led_by: LedBy,
    masquerade_all: bool,
    forwarder: Arc<Forwarder>,
    return_path: ReturnPath,
    sources: Arc<Sources>,
    families: Vec<Programmed>,
    ports: BTreeMap<(Family, Protocol), Ports<TargetKey>>,
    /// What listens.
    open: HashMap<TargetKey, Wanted>,
    /// What the kernel leads to.
    led: HashMap<(Arc<ServicePortName>, Family), Arc<ServicePort>>,
    /// What the last sync left, for whoever looks whether it is still there.
    in_place: InPlace,
    notices: Notices,
}

/// One family.
struct Programmed {
    family: Family,
    address: IpAddr,
    /// Whether it was said that it cannot be used.
    complained: bool,
}

impl Captured {
    /// Opens the way to the kernel and starts the forwarder; changes nothing yet.
    ///
    /// # Errors
    /// When the mode that is to lead here cannot work, or there is no thread to be had.
    pub fn new(settings: Settings, options: Options, led_by: LedBy) -> Result<Self, Error> {
        let masquerade_all = settings.masquerade_all;
        let sources = Arc::new(Sources::open(settings.detect_local.clone())?);
        let families = Family::BOTH.into_iter().filter(|family| settings.enables(*family));
        let families = families.map(|family| Programmed {
            family,
            address: address(family, &options.addresses),
            complained: false,
        });
        let families = families.collect();
        let as_client_or_not_at_all = settings.policies;
        let (inner, led_by, tables): (Box<dyn Mode>, _, _) = match led_by {
            LedBy::Nftables => {
                (Box::new(Nftables::new(settings)?), led_by, Tables::Nftables(Connection::open()?))
            }
            LedBy::Iptables(backend) => {
                let mode = Iptables::new(settings, backend)?;
                let (led_by, programs) = (LedBy::Iptables(Some(mode.backend())), mode.programs());
                (Box::new(mode), led_by, Tables::Iptables(programs))
            }
        };
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let realms = Family::BOTH.into_iter().flat_map(|family| protocols.map(|it| (family, it)));
        let ports = realms.map(|realm| (realm, Ports::new(options.ports.clone()))).collect();
        let forward = forward::Options { mark: Some(BORROWED), as_client_or_not_at_all, ..options.forward };
        let forwarder = Arc::new(Forwarder::start(forward)?);
        // Until the first sync, the kernel leads by what an earlier process has left.
        forwarder.hold_back();
        Ok(Self {
            inner,
            led_by,
            masquerade_all,
            forwarder,
            return_path: ReturnPath::open(tables)?,
            sources,
            families,
            ports,
            open: HashMap::new(),
            led: HashMap::new(),
            in_place: InPlace::default(),
            notices: Notices::default(),
        })
    }

    /// The mode that leads here; if iptables, the back end that is in use.
    #[must_use]
    pub fn led_by(&self) -> LedBy {
        self.led_by
    }

    /// What carries the traffic.
    #[must_use]
    pub fn forwarder(&self) -> Arc<Forwarder> {
        Arc::clone(&self.forwarder)
    }

    /// Sees to all that does not depend on services.
    fn prepare(&mut self, desired: &Desired, report: &mut Report) -> Result<(), Error> {
        let (mut here, mut led_back) = (Vec::new(), Vec::new());
        let mut all_unused = true;
        for family in &mut self.families {
            let Programmed { family: of, address, .. } = *family;
            match self.return_path.take_address(of, address, report) {
                Ok(is_unused) => {
                    here.push((of, address));
                    all_unused &= is_unused;
                }
                // The other one is served all the same.
                Err(error) if !here.is_empty() => {
                    family.complain(&format!("no service is served: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            }
            match self.return_path.lead_back(of, address, report) {
                Ok(()) => led_back.push(of),
                Err(error) => {
                    family.complain(&format!("endpoints see this node's address, never a client's: {error}"));
                }
            }
        }
        self.sources.update(&desired.node, led_back.clone());
        self.in_place.set(here, led_back);
        if all_unused {
            // Nobody can be led here by an earlier process, nor be refused once the kernel leads here.
            self.forwarder.serve_all();
        }
        Ok(())
    }

    /// Listens for a service port; says why that cannot be. What is no longer wanted goes on for now.
    fn listen_for(&mut self, service: &ServicePort) -> Result<(), Error> {
        targets::of(service, self.masquerade_all).try_for_each(|wanted| self.listen(wanted))
    }

    fn listen(&mut self, wanted: Wanted) -> Result<(), Error> {
        let had = self.open.get(&wanted.key);
        if had == Some(&wanted) {
            return Ok(());
        }
        let target = self.target(&wanted);
        if had.is_none() || !self.forwarder.change(&wanted.key, &target) {
            // Where the address cannot be had, that has been said.
            let Some(address) = self.in_place.address(wanted.key.family) else { return Ok(()) };
            self.open_at(&wanted.key, address, &target)?;
        }
        self.open.insert(wanted.key.clone(), wanted);
        Ok(())
    }

    /// Listens at the port of a target, or at another if a program has that.
    fn open_at(&mut self, key: &TargetKey, address: IpAddr, target: &Target) -> Result<(), Error> {
        let no_port = || Error::NoPort { service: key.to_string() };
        let ports = self.ports.get_mut(&(key.family, key.name.protocol)).ok_or_else(no_port)?;
        let mut port = ports.assign(key).ok_or_else(no_port)?;
        for tries_left in (0..TRIES).rev() {
            match self.forwarder.open(key.clone(), (address, port).into(), target) {
                Ok(()) => return Ok(()),
                Err(OpenError::InUse(taken)) if tries_left > 0 => {
                    tracing::info!(%taken, "in use by another program: {key} gets another port");
                    port = ports.refuse(key, port).ok_or_else(no_port)?;
                }
                Err(cause) => {
                    ports.release(key);
                    return Err(Error::Listen { service: key.to_string(), cause });
                }
            }
        }
        Err(no_port())
    }

    fn target(&self, wanted: &Wanted) -> Target {
        let kept = wanted.kept;
        let sources = Arc::clone(&self.sources);
        Target {
            endpoints: Arc::clone(&wanted.endpoints),
            serving: Arc::clone(&wanted.serving),
            affinity: wanted.affinity_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            proxy_protocol: wanted.proxy_protocol,
            source: match kept {
                Kept::Nobody => SourceAddress::Node,
                Kept::Pods | Kept::Everybody => {
                    SourceAddress::Client(Arc::new(move |client, to| sources.keeps(kept, client, to)))
                }
            },
        }
    }

    /// Where a target listens, if it does.
    fn place(&self, key: &TargetKey) -> Option<SocketAddr> {
        self.open.get(key)?;
        let port = self.ports.get(&(key.family, key.name.protocol))?.get(key)?;
        Some((self.in_place.address(key.family)?, port).into())
    }

    /// Whether there would be a port for everything.
    fn check_ports(&self, desired: &Desired) -> Result<(), Error> {
        let mut ports = self.ports.clone();
        let services = desired.service_ports.iter();
        for Wanted { key, .. } in services.flat_map(|service| targets::of(service, self.masquerade_all)) {
            let realm = ports.get_mut(&(key.family, key.name.protocol));
            if realm.and_then(|ports| ports.assign(&key)).is_none() {
                return Err(Error::NoPort { service: key.to_string() });
            }
        }
        Ok(())
    }

    /// Nothing leads there any more.
    fn close(&mut self, key: &TargetKey) {
        if self.open.remove(key).is_none() {
            return;
        }
        self.forwarder.close(key);
        if let Some(ports) = self.ports.get_mut(&(key.family, key.name.protocol)) {
            ports.release(key);
        }
    }

    /// What the kernel is to be told of a change; `None` if that is what it knows.
    fn for_kernel(&self, change: &Change) -> Option<Change> {
        let service = change.after.as_ref().or(change.before.as_ref())?;
        let before = self.led.get(&key(service)).cloned();
        let after = change.after.as_ref();
        let after = after.map(|after| Arc::new(targets::for_kernel(after, |key| self.place(key))));
        (before != after).then_some(Change { before, after })
    }
}

impl Mode for Captured {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn families(&self) -> Vec<Family> {
        self.inner.families()
    }

    fn node_ports_everywhere(&self) -> bool {
        self.inner.node_ports_everywhere()
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let mut report = Report::default();
        self.prepare(desired, &mut report)?;
        let mut failure = None;
        for service in &desired.service_ports {
            failure = failure.or(self.listen_for(service).err());
        }
        let services = desired.service_ports.iter();
        let services = services.map(|service| Arc::new(targets::for_kernel(service, |key| self.place(key))));
        let told = Desired { service_ports: services.collect(), ..desired.clone() };
        self.led = told.service_ports.iter().map(|service| (key(service), Arc::clone(service))).collect();
        let led = self.inner.resync(&told)?;
        self.forwarder.serve_all();
        let services = desired.service_ports.iter();
        let wanted: HashSet<TargetKey> =
            services.flat_map(|service| targets::of(service, self.masquerade_all)).map(|it| it.key).collect();
        let unwanted: Vec<_> = self.open.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        unwanted.iter().for_each(|key| self.close(key));
        // Everything else is done.
        failure.map_or(Ok(()), Err)?;
        Ok(Report { notices: self.notices.of_all(desired), ..sum(&report, led) })
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let mut failure = None;
        for after in delta.changes.iter().filter_map(|change| change.after.as_ref()) {
            failure = failure.or(self.listen_for(after).err());
        }
        let changes: Vec<_> = delta.changes.iter().filter_map(|change| self.for_kernel(change)).collect();
        let told = Delta { changes, ..Delta::default() };
        let report = self.inner.apply(&told)?;
        for Change { before, after } in &told.changes {
            match (before, after) {
                (_, Some(after)) => drop(self.led.insert(key(after), Arc::clone(after))),
                (Some(before), None) => {
                    self.led.remove(&key(before));
                }
                (None, None) => {}
            }
        }
        for change in &delta.changes {
            self.close_unwanted(change);
        }
        failure.map_or(Ok(()), Err)?;
        Ok(Report { notices: self.notices.of_changes(delta), ..report })
    }

    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error> {
        self.check_ports(desired)?;
        let services = desired.service_ports.iter();
        // What does not listen yet would do so somewhere.
        let place = |key: &TargetKey| {
            let somewhere = || Some((address(key.family, &[]), *PORTS.start()).into());
            self.place(key).or_else(somewhere)
        };
        let services = services.map(|service| Arc::new(targets::for_kernel(service, place))).collect();
        self.inner.rehearse(&Desired { service_ports: services, ..desired.clone() })
    }

    fn compare(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        self.compare_all(desired)
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        self.inner.tidy()
    }

    /// The kernel leads to endpoints itself from now on, and the forwarder finishes what is short.
    fn hand_over(&mut self, desired: &Desired) -> Result<(), Error> {
        let services = desired.service_ports.iter().map(targets::without_forwarder).collect();
        self.inner.resync(&Desired { service_ports: services, ..desired.clone() })?;
        self.finish();
        // So that the next process need not suspect anybody to be led to it.
        return_path::hand_over().map(drop)
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        let rules = self.return_path.tables.monitor()?;
        Ok(Box::new(watch::start(self.inner.watch()?, rules, self.in_place.clone())?))
    }
}

impl Captured {
    /// Waits for connections under way to end, but not for long. None are under way when the last that came has been
    /// taken on, which nothing tells.
    fn finish(&self) {
        let deadline = Instant::now() + FINISHING;
        thread::sleep(TAKING_ON);
        while self.forwarder.figures().active_connections > 0 && Instant::now() < deadline {
            thread::sleep(MOMENT);
        }
    }

    /// Closes what a change has left without use.
    fn close_unwanted(&mut self, change: &Change) {
        let of = |service: &Option<Arc<ServicePort>>| -> Vec<TargetKey> {
            let targets = service.iter().flat_map(|service| targets::of(service, self.masquerade_all));
            targets.map(|wanted| wanted.key).collect()
        };
        let (had, wanted) = (of(&change.before), of(&change.after));
        had.iter().filter(|key| !wanted.contains(key)).for_each(|key| self.close(key));
    }
}

impl Programmed {
    /// Says once what cannot be had.
    fn complain(&mut self, complaint: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(family = %self.family, "{complaint}");
        }
    }
}

fn key(service: &ServicePort) -> (Arc<ServicePortName>, Family) {
    (Arc::clone(&service.name), service.family)
}

/// The address to listen on.
fn address(family: Family, asked: &[IpAddr]) -> IpAddr {
    let [v4, v6] = ADDRESSES;
    let default = if family == Family::V4 { v4 } else { v6 };
    asked.iter().copied().find(|address| Family::of(*address) == family).unwrap_or(default)
}

fn sum(one: &Report, other: Report) -> Report {
    Report { operations: one.operations + other.operations, bytes: one.bytes + other.bytes, ..other }
}
