//! nftables mode: few rules, many map elements.
//!
//! # Theory of operation
//!
//! Which service a packet is for is written in the packet: destination address, protocol and port. So instead of a
//! chain for every service, a handful of chains look everything up by those three.
//!
//! A new connection comes through `nat-prerouting` (or `nat-output`) to the chain `services`. The map `service-ips`
//! gives the number of a chain for *how many* endpoints there are, and the map `picks` takes it there: `pick-3` draws a
//! slot from 0 to 2 and looks up `address . protocol . port . slot` in the map `endpoints`, which gives the address and
//! port to translate to. Ten thousand services with three endpoints each share that one chain. A change of an endpoint
//! is one element removed and one added. A new service is a handful of elements. Neither depends on how many services
//! there are (`numbers` tells why it takes two maps).
//!
//! - External and load-balancer addresses stand in the same maps as ClusterIPs. Node ports have maps of their own,
//!   without an address in the key.
//! - Variants of a pick chain masquerade (`-masq`) or use the endpoints of this node only (`-local`, map
//!   `local-endpoints`).
//! - `local-policy-N` serves external frontends with policy Local: pods and this node itself leave it through
//!   `local-policy-ips` to any endpoint; others to one of N local endpoints.
//! - Services with session affinity have chains of their own, for the reason told in `sticky`.
//! - Traffic that must return through this node is marked, and masqueraded in `nat-postrouting`; so is a pod that
//!   reaches itself (`hairpin-connections`).
//! - Before translation, `firewall-check` drops what `loadBalancerSourceRanges` excludes. After it, in `filter-*`, what
//!   was not translated although it should have been is rejected or dropped: `no-endpoint-services`,
//!   `no-endpoint-nodeports`, undefined ports of a ClusterIP, unallocated ClusterIPs.
//!
//! A change is two transactions at most: chains and their numbers first, then all other elements together (why: `ops`,
//! `pick`). Chains without use go later, with their numbers, when nothing has led to them for a while.
//!
//! Chains at base hooks and their priorities are kube-proxy's. IPv4 and IPv6 have a table each, programmed alike.
//!
//! # Where things are
//!
//! `layout` names every set and chain; `base`, `pick`, `sticky` and `rules` hold the rules; `elements`, `slots` and
//! `numbers` turn a service port into elements; `program` turns changes into `ops`. All these are pure. `installed` reads the kernel,
//! `probe` asks what it can do, `compare` tells in `words` what differs there, and this file brings all together.

mod base;
mod bytes;
mod compare;
mod elements;
mod found;
mod installed;
pub(crate) mod layout;
mod numbers;
mod ops;
mod pick;
mod probe;
mod program;
pub(crate) mod rules;
mod slots;
mod sticky;
#[cfg(test)]
mod tests;
mod words;

use endpoint_cache::{Delta, Desired, Family, ServicePort};
use kernel::nft::{Batch, Monitor, Nftables as Connection, Table};

pub use self::layout::table as frontend_table;

use self::installed::Installed;
use self::layout::SetName;
use self::numbers::Numbers;
use self::ops::Ops;
use self::pick::Scope;
use self::program::{PlacedEndpoints, Program, Unused};
use crate::context::{Context, Unset};
use crate::flows::Flows;
use crate::news::{Began, News};
use crate::{Comparison, Error, Mode, Report, Settings, Watch};

/// Share of the socket's limit that a transaction may be estimated at, leaving room for the estimate's error.
const LIMIT_SHARE: usize = 2;

/// Bytes of a transaction beyond which a change of many services is sent as several, each of which leaves every service
/// that it touches right. Between them the kernel has time to enlarge its hash tables: ten thousand services are loaded
/// in two thirds of the time.
const PIECE: usize = 1 << 20;

/// Elements of a set beyond which a full sync writes it anew, in one transaction, in place of reading and comparing it:
/// the kernel lists a set in time quadratic in its size, 12 s for half a million elements.
const READ_AT_MOST: usize = 200_000;
/// Rough bytes of an endpoint's element on the wire.
const SLOT_SIZE: usize = 128;

/// The nftables mode.
pub struct Nftables {
    settings: Settings,
    connection: Connection,
    flows: Flows,
    tables: Vec<Programmed>,
    /// When the last full sync began.
    began: Option<Began>,
}

/// One family's table.
struct Programmed {
    family: Family,
    /// `None` until the first sync.
    program: Option<Program>,
}

impl Nftables {
    /// Opens the way to the kernel and sees whether it can do all that is needed; changes nothing yet. A kernel that
    /// can do it for IPv4 only is taken as it is.
    ///
    /// # Errors
    /// When the kernel lacks something, or this process may not use it.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let mut connection = Connection::open()?;
        let mut tables = Vec::new();
        for family in Family::BOTH.into_iter().filter(|family| settings.enables(*family)) {
            match probe::run(&mut connection, family) {
                Ok(()) => tables.push(Programmed { family, program: None }),
                Err(error) if !tables.is_empty() => tracing::warn!("no {family}: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { settings, connection, flows: Flows::open()?, tables, began: None })
    }
}

impl Mode for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn families(&self) -> Vec<Family> {
        self.tables.iter().map(|table| table.family).collect()
    }

    fn node_ports_everywhere(&self) -> bool {
        false
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let mut report = Report::default();
        let commits = self.connection.commits();
        self.began = Some(Began::now(&mut self.connection, commits)?);
        for table in &mut self.tables {
            let context = context(table.family, &self.settings, desired);
            table.resync(context, desired, &mut self.connection, &mut report)?;
        }
        report.cleanings = self.flows.remove_stale(desired);
        Ok(report)
    }

    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error> {
        for table in &self.tables {
            let context = context(table.family, &self.settings, desired);
            table.rehearse(context, desired, &mut self.connection)?;
        }
        Ok(())
    }

    fn compare(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        let mut comparison = Comparison::default();
        for table in &self.tables {
            let context = context(table.family, &self.settings, desired);
            table.compare(context, desired, &mut self.connection, &mut comparison)?;
        }
        Ok(comparison)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let mut report = Report::default();
        for table in &mut self.tables {
            table.apply(delta, &mut self.connection, &mut report)?;
        }
        report.cleanings = self.flows.remove_after(&delta.changes);
        Ok(report)
    }

    fn reconfigure(&mut self, settings: &Settings) -> bool {
        let Settings { ipv4, ipv6, .. } = self.settings;
        self.settings = Settings { ipv4, ipv6, ..settings.clone() };
        true
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        let mut report = Report::default();
        for table in &mut self.tables {
            table.tidy(&mut self.connection, &mut report)?;
        }
        Ok(report)
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        let tables = self.tables.iter().map(|table| layout::table(table.family)).collect();
        let monitor = Monitor::open(tables, self.connection.port())?;
        let commits = self.connection.commits();
        Ok(Box::new(News::new(monitor, self.began, &mut self.connection, commits)?))
    }
}

impl Programmed {
    /// An empty transaction on our table.
    fn batch(&self) -> Batch {
        Batch::new(layout::table(self.family))
    }

    fn resync(
        &mut self,
        context: Context,
        desired: &Desired,
        connection: &mut Connection,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.program = None;
        let most = connection.batch_limit() / LIMIT_SHARE;
        let mut resync = self.begin(context, self.too_large_to_read(desired, most), connection)?;
        let limit = if resync.at_once { most } else { PIECE.min(most) };
        for service in self.services(desired) {
            resync.program.add(service, &resync.placed, &mut resync.ops);
            if let Some(full) = resync.ops.split_off_over(limit) {
                resync.send(&full, connection, report)?;
            }
        }
        let leftovers = resync.ops.remove_unwanted();
        resync.program.add_unused(leftovers, std::mem::take(&mut resync.foreign_sets));
        let rest = std::mem::take(&mut resync.ops);
        resync.send(&rest, connection, report)?;
        self.program = Some(resync.program);
        Ok(())
    }

    fn rehearse(
        &self,
        context: Context,
        desired: &Desired,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let mut resync = self.begin(context, None, connection)?;
        for service in self.services(desired) {
            resync.program.add(service, &resync.placed, &mut resync.ops);
        }
        resync.ops.remove_unwanted();
        resync.ops.encode_chains(&mut resync.batch);
        resync.ops.encode_elements(&mut resync.batch);
        Ok(connection.rehearse(resync.batch)?)
    }

    /// The service ports of this family.
    fn services<'a>(&self, desired: &'a Desired) -> impl Iterator<Item = &'a ServicePort> {
        let family = self.family;
        desired.service_ports.iter().map(AsRef::as_ref).filter(move |service| service.family == family)
    }

    /// The set that is better written anew than read and compared, if any.
    fn too_large_to_read(&self, desired: &Desired, most: usize) -> Option<SetName> {
        let slots = |service: &ServicePort| {
            let places = elements::placements(service, Scope::Cluster).len();
            places * elements::endpoints(service, Scope::Cluster).len()
        };
        let slots: usize = self.services(desired).map(slots).sum();
        // It would have to go in one transaction.
        (slots > READ_AT_MOST && slots * SLOT_SIZE < most).then_some(SetName::Endpoints)
    }

    /// Reads the kernel, but for the elements of `skip`, and sees to what every ruleset has.
    fn begin(
        &self,
        context: Context,
        skip: Option<SetName>,
        connection: &mut Connection,
    ) -> Result<Resync, Error> {
        let installed = installed::read(connection, self.family, skip)?;
        if installed.unusable {
            tracing::info!(family = %self.family, "the table has another layout: replacing it whole");
        }
        Ok(self.begin_with(context, installed))
    }

    /// The same, when the kernel has been read.
    fn begin_with(&self, context: Context, installed: Installed) -> Resync {
        let placed = PlacedEndpoints::read(&installed.elements, self.family);
        let numbers = Numbers::read(&installed.elements);
        let live = installed.can_be_kept();
        // What is replaced whole is replaced at once.
        let at_once = installed.unusable || installed.unread.is_some();
        let foreign_sets = if live { installed.foreign_sets.clone() } else { Vec::new() };
        let mut batch = self.batch();
        let mut ops = self.prepare(installed, &mut batch);
        for (chain, rules) in base::chains(&context) {
            ops.write_chain(chain, rules);
        }
        let program = Program::new(context, numbers);
        Resync { program, ops, batch, placed, foreign_sets, live, at_once }
    }

    /// Brings the table and its sets about; what can be kept of it is what the operations are compared with.
    fn prepare(&self, installed: Installed, batch: &mut Batch) -> Ops {
        if installed.unusable {
            batch.delete_table();
        }
        let keep = installed.can_be_kept();
        if !keep {
            batch.add_table("Services, programmed by pointsman");
        }
        for set in SetName::ALL.into_iter().filter(|set| !(keep && installed.sets.contains(set))) {
            batch.add_set(&set.definition(self.family));
        }
        if !keep {
            return Ops::default();
        }
        let mut ops = Ops::against(installed.elements, installed.chains);
        if let Some(unread) = installed.unread {
            ops.empty(unread);
        }
        ops
    }

    fn apply(
        &mut self,
        delta: &Delta,
        connection: &mut Connection,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(mut program) = self.program.take() else { return Err(Error::NotSynced) };
        let limit = PIECE.min(connection.batch_limit() / LIMIT_SHARE);
        for ops in program.update(&delta.changes, limit) {
            let (mut chains, mut elements) = (self.batch(), self.batch());
            ops.encode_chains(&mut chains);
            commit(connection, chains, report)?;
            ops.encode_elements(&mut elements);
            commit(connection, elements, report)?;
        }
        self.program = Some(program);
        Ok(())
    }

    /// Removes chains and sets without use. Kernels before 6.2 may count references that are gone already; then all
    /// of it waits.
    fn tidy(&mut self, connection: &mut Connection, report: &mut Report) -> Result<(), Error> {
        let Some(program) = &mut self.program else { return Ok(()) };
        let Unused { leftovers, sets } = program.unused();
        let mut batch = Batch::new(layout::table(self.family));
        leftovers.leads.iter().for_each(|(map, lead)| batch.delete_elements(map.as_str(), [lead]));
        // Emptied first: they may lead to each other.
        leftovers.chains.iter().for_each(|chain| batch.flush_chain(chain));
        leftovers.chains.iter().for_each(|chain| batch.delete_chain(chain));
        sets.iter().for_each(|set| batch.delete_set(set));
        match commit(connection, batch, report) {
            Err(Error::Kernel(error)) if error.is_busy() => {
                tracing::debug!(family = %self.family, "unused chains are still referred to: left for later");
            }
            result => {
                result?;
                program.forget_unused();
            }
        }
        Ok(())
    }
}

/// A full sync under way.
struct Resync {
    program: Program,
    ops: Ops,
    /// What is to be sent next.
    batch: Batch,
    placed: PlacedEndpoints,
    foreign_sets: Vec<String>,
    /// Whether packets come through the table.
    live: bool,
    /// Whether everything has to be one transaction.
    at_once: bool,
}

impl Resync {
    /// Sends operations. In a table that is live, chains come first; why is told at [`Ops::encode_chains`].
    fn send(&mut self, ops: &Ops, connection: &mut Connection, report: &mut Report) -> Result<(), Error> {
        let empty = || Batch::new(self.batch.table().clone());
        let (elements, next) = (empty(), empty());
        let mut batch = std::mem::replace(&mut self.batch, next);
        ops.encode_chains(&mut batch);
        if self.live {
            commit(connection, std::mem::replace(&mut batch, elements), report)?;
        }
        ops.encode_elements(&mut batch);
        self.live = true;
        commit(connection, batch, report)
    }
}

fn context(family: Family, settings: &Settings, desired: &Desired) -> Context {
    Context::new(family, settings, &desired.node, &desired.service_cidrs, Unset::Primary)
}

fn commit(connection: &mut Connection, batch: Batch, report: &mut Report) -> Result<(), Error> {
    let (operations, bytes) = (batch.operations(), batch.bytes());
    connection.commit(batch)?;
    if operations > 0 {
        report.operations += operations;
        report.bytes += bytes;
    }
    Ok(())
}

/// Removes our tables and nothing else; says how many there were. A kernel without nf_tables has none.
///
/// # Errors
/// When the kernel cannot be read, or refuses.
pub fn cleanup() -> Result<usize, Error> {
    remove_tables(&Family::BOTH.map(layout::table))
}

/// Removes the tables of kube-proxy's nftables mode; says how many there were.
///
/// # Errors
/// As [`cleanup`].
pub fn remove_kube_proxy() -> Result<usize, Error> {
    let table = |family| Table { name: "kube-proxy".to_owned(), ..layout::table(family) };
    remove_tables(&Family::BOTH.map(table))
}

fn remove_tables(unwanted: &[Table]) -> Result<usize, Error> {
    let removed = || -> Result<usize, kernel::Error> {
        let mut connection = Connection::open()?;
        let mut present = connection.tables()?;
        present.retain(|table| unwanted.contains(table));
        for table in &present {
            let mut batch = Batch::new(table.clone());
            batch.delete_table();
            connection.commit(batch)?;
        }
        Ok(present.len())
    };
    match removed() {
        Err(kernel::Error::Unsupported { .. }) => Ok(0),
        removed => Ok(removed?),
    }
}
