//! ipvs mode: the kernel's own load balancer, set up as kube-proxy sets it up.
//!
//! # Theory of operation
//!
//! Each address and port that clients come to is a *virtual server* of IPVS, and its *destinations* are endpoints, which a
//! scheduler chooses among: round robin if nothing else is asked for. IPVS looks at packets that are for the node itself,
//! so a device of ours, `kube-ipvs0`, has all ClusterIPs, external and load-balancer addresses. It is down, and nothing
//! ever comes in by it; the kernel takes its addresses for local all the same. A node port is a virtual server at each of
//! the node's own addresses, and follows them as they come and go.
//!
//! IPVS only translates destinations. What else there is to do is done by a fixed number of iptables rules that look
//! addresses and ports up in *ipsets*: masquerading, source ranges, policy Local where this node has no endpoint, and
//! ports that no service has.
//!
//! - Sets are filled before a virtual server is made and emptied after it has gone. So what is in them also says, to the
//!   next process, which virtual servers are ours; those of others are left alone.
//! - An endpoint that goes gets weight 0: nothing new, but its connections go on. It is removed when they are done, or
//!   after a quarter of an hour. Over UDP it goes at once, unless it still serves. A virtual server that goes stays as
//!   long for connections that it has, and refuses others.
//! - Session affinity is IPVS's persistence. Each virtual server remembers its own clients.
//! - Under policy Local, this node and its pods go to the endpoints here as well, as long as there are any.
//!
//! A change of services is the few messages that it takes: IPVS, ipsets and addresses have no transactions, so they are
//! sent in an order that leaves every packet a way. IPVS and ipset tell nobody of changes, so their sizes are looked at
//! every second, and everything is read back once in a while (`--ipvs-sync-period`).
//!
//! # Where things are
//!
//! `service` is what a service port has to say, `surroundings` what that depends on, `sets` the names, `rules` the rules.
//! `program` turns changes into a plan, `draining` keeps what is to go later. All these are pure. `edge` is the way to the
//! kernel, `installed` what was found there, `compare` tells what differs from it, `watch` hears of what others do, `cleanup` takes all away, `leaving` does so
//! when another mode has taken over, as connections end, `detached` has their addresses, and this file brings all together.

mod cleanup;
mod compare;
mod detached;
mod draining;
mod edge;
mod installed;
mod leaving;
mod program;
mod rules;
mod service;
mod sets;
mod surroundings;
mod sysctls;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use endpoint_cache::{Delta, Desired, Family, ServicePort};
use ipnet::IpNet;
use kernel::iptables::Iptables as Programs;
use kernel::ipvs::{Frontend, Refused};
pub use kernel::ipvs::{InvalidScheduler, Scheduler, Timeouts};

use self::edge::{Edge, Node};
use self::program::{Plan, Program};
use self::sets::SetName;
use self::surroundings::Surroundings;
use self::watch::{Footprint, Footprints};
use crate::flows::Flows;
use crate::iptables::installed::Installed as InstalledRules;
use crate::iptables::tables::{Backend, Tables};
use crate::{Comparison, Error, Mode, Report, Settings, Watch};

pub use cleanup::cleanup;
pub use leaving::{Leaving, leave};
pub(crate) use rules::has_chain;

/// What only this mode can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How endpoints are chosen (`--ipvs-scheduler`).
    pub scheduler: Scheduler,
    /// How often everything is read back and compared (`--ipvs-sync-period`).
    pub sync_period: Duration,
    /// Where virtual servers are never removed (`--ipvs-exclude-cidrs`).
    pub exclude_cidrs: Vec<IpNet>,
    /// Whether addresses of `kube-ipvs0` are kept from being answered for on other links (`--ipvs-strict-arp`).
    pub strict_arp: bool,
    /// After how long IPVS forgets idle connections; 0 leaves the kernel's own (`--ipvs-tcp-timeout` and so on).
    pub timeouts: Timeouts,
}

/// The ipvs mode.
pub struct Ipvs {
    settings: Settings,
    options: Options,
    tables: Tables,
    edge: Edge,
    flows: Flows,
    families: Vec<Programmed>,
    /// Our device, once it is there.
    device: Option<u32>,
    /// What there is at the end of every sync, for whoever looks whether it is still there.
    footprints: Footprints,
    /// Virtual servers that the kernel refused in the last full sync.
    refused: HashSet<Frontend>,
}

/// One family.
struct Programmed {
    family: Family,
    programs: Programs,
    /// `None` until the first sync.
    program: Option<Program>,
}

/// Sets the kernel parameters that this mode takes, which a container may not.
///
/// # Errors
/// When one cannot be set.
pub fn initialise(options: &Options) -> Result<(), Error> {
    sysctls::set(options.strict_arp)
}

impl Ipvs {
    /// Sees whether the kernel has IPVS with the scheduler, ipsets, and what iptables needs; programs nothing yet.
    ///
    /// # Errors
    /// When something of that is missing.
    pub fn new(settings: Settings, options: Options, backend: Option<Backend>) -> Result<Self, Error> {
        let mut edge = Edge::open()?;
        if !edge.servers.offers(&options.scheduler)? {
            return Err(Error::NoScheduler {
                asked: options.scheduler.to_string(),
                offered: offered(&mut edge)?.join(", "),
            });
        }
        if options.timeouts != Timeouts::default() {
            edge.servers.set_timeouts(options.timeouts)?;
        }
        let (tables, families) = Tables::open(&settings, backend)?;
        let families = families.into_iter();
        let families =
            families.map(|(family, programs)| Programmed { family, programs, program: None }).collect();
        Ok(Self {
            settings,
            options,
            tables,
            edge,
            flows: Flows::open()?,
            families,
            device: None,
            footprints: Footprints::default(),
            refused: HashSet::new(),
        })
    }

    /// The back end of iptables in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.tables.backend
    }

    fn resync_all(&mut self, desired: &Desired, report: &mut Report) -> Result<Footprint, Error> {
        sysctls::set(self.options.strict_arp)?;
        self.tables.begins()?;
        let node = self.edge.read_node()?;
        self.device = Some(node.device);
        self.refused.clear();
        let (mut refusals, mut footprint) = (Vec::new(), Footprint::of(&node));
        for at in 0..self.families.len() {
            refusals.extend(self.resync_family(at, desired, &node, &mut footprint, report)?);
        }
        self.refused.extend(refusals.iter().map(|(frontend, _)| *frontend));
        // Everything else is done.
        let first = refusals.into_iter().next();
        first.map_or(Ok(footprint), |(_, refusal)| Err(kernel::Error::from(refusal).into()))
    }

    /// Returns what the kernel refuses.
    fn resync_family(
        &mut self,
        at: usize,
        desired: &Desired,
        node: &Node,
        footprint: &mut Footprint,
        report: &mut Report,
    ) -> Result<Vec<(Frontend, Refused)>, Error> {
        let family = &mut self.families[at];
        let earlier = family.program.take();
        let surroundings = Surroundings::new(family.family, &self.settings, desired, &node.others());
        self.edge.make_sets(family.family, report)?;
        let excluded = &self.options.exclude_cidrs;
        let mut installed = self.edge.read_family(family.family, node, excluded, &SetName::ALL)?;
        footprint.add(&installed, family.family);
        let (had, draining) = earlier.map(Program::into_parts).unwrap_or_default();
        installed.local.extend(had);
        let layout = rules::layout(&surroundings.common);
        let (services, now) = (family.services(desired), Instant::now());
        let (program, plan) = Program::resync(
            surroundings,
            with_options(self.options.scheduler),
            services,
            &installed,
            draining,
            now,
        );
        let mut work = Work { edge: &mut self.edge, family: family.family, device: node.device };
        work.enter(&plan)?;
        let (programs, mut refused) = (family.programs.clone(), Vec::new());
        self.tables.put_right(&programs, report, |tables, report| {
            let installed = InstalledRules::read(&programs)?;
            // Rules of iptables mode translate until they are replaced: there must be something to take over from them.
            let takes_over = installed.serves();
            if takes_over {
                refused = work.serve(&plan)?;
            }
            let scripts = layout.scripts(&installed, tables.size);
            scripts.iter().try_for_each(|script| tables.run(&programs, script, report))?;
            if !takes_over {
                refused = work.serve(&plan)?;
            }
            Ok(())
        })?;
        work.take_away(&plan)?;
        footprint.follow(&plan, family.family);
        report.operations += plan.operations();
        family.program = Some(program);
        Ok(refused)
    }
}

impl Mode for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn families(&self) -> Vec<Family> {
        self.families.iter().map(|programmed| programmed.family).collect()
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let footprints = self.footprints.clone();
        let mut footprint = footprints.hold();
        *footprint = None;
        let mut report = Report::default();
        let mut result = self.resync_all(desired, &mut report);
        while result.as_ref().is_err_and(|error| self.tables.shrink(error)) {
            result = self.resync_all(desired, &mut report);
        }
        *footprint = Some(result?);
        report.cleanings = self.flows.remove_stale(desired);
        Ok(report)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let Some(device) = self.device else { return Err(Error::NotSynced) };
        let footprints = self.footprints.clone();
        let mut footprint = footprints.hold();
        let (mut report, now) = (Report::default(), Instant::now());
        for programmed in &mut self.families {
            let Some(mut program) = programmed.program.take() else { return Err(Error::NotSynced) };
            let busy = self.edge.busy(&program.unwanted_after(&delta.changes))?;
            let plan = program.update(&delta.changes, |frontend| busy.contains(frontend), now);
            let mut work = Work { edge: &mut self.edge, family: programmed.family, device };
            work.enter(&plan)?;
            if let Some((_, refusal)) = work.serve(&plan)?.into_iter().next() {
                return Err(kernel::Error::from(refusal).into());
            }
            work.take_away(&plan)?;
            if let Some(footprint) = footprint.as_mut() {
                footprint.follow(&plan, programmed.family);
            }
            report.operations += plan.operations();
            programmed.program = Some(program);
        }
        report.cleanings = self.flows.remove_after(&delta.changes);
        Ok(report)
    }

    /// IPVS cannot be asked without being told to. What it refused in the last full sync it will refuse again.
    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error> {
        let programs = self.families.iter().filter_map(|family| Some((family, family.program.as_ref()?)));
        for (family, program) in programs {
            let refused =
                |service: &&ServicePort| program.contributes(service, |of| self.refused.contains(of));
            if let Some(service) = family.services(desired).find(refused) {
                return Err(Error::RefusedBefore { service: service.name.to_string() });
            }
        }
        Ok(())
    }

    fn compare(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        self.compare_all(desired)
    }

    /// Removes endpoints whose connections are done.
    fn reconfigure(&mut self, settings: &Settings) -> bool {
        let Settings { ipv4, ipv6, .. } = self.settings;
        self.settings = Settings { ipv4, ipv6, ..settings.clone() };
        true
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        let now = Instant::now();
        let mut report = Report::default();
        let footprints = self.footprints.clone();
        let mut footprint = footprints.hold();
        for programmed in &mut self.families {
            let (Some(program), Some(device)) = (programmed.program.as_mut(), self.device) else { continue };
            for frontend in program.draining_frontends() {
                let found = self.edge.servers.destinations(frontend)?;
                let plan = program.finish(frontend, &found, now);
                Work { edge: &mut self.edge, family: programmed.family, device }.take_away(&plan)?;
                if let Some(footprint) = footprint.as_mut() {
                    footprint.follow(&plan, programmed.family);
                }
                report.operations += plan.operations();
            }
        }
        report.unfinished = self.drains();
        Ok(report)
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        let rules =
            self.tables.watch(self.families.iter().map(|family| family.programs.clone()).collect())?;
        let own_port = self.edge.links.port();
        Ok(Box::new(watch::start(rules, self.footprints.clone(), own_port, self.options.sync_period)?))
    }
}

impl Ipvs {
    /// Whether there are endpoints that have to go later.
    fn drains(&self) -> bool {
        self.families.iter().filter_map(|family| family.program.as_ref()).any(Program::drains_any)
    }
}

impl Programmed {
    /// The service ports of this family.
    fn services<'a>(&self, desired: &'a Desired) -> impl Iterator<Item = &'a ServicePort> + use<'a> {
        let family = self.family;
        desired.service_ports.iter().map(AsRef::as_ref).filter(move |service| service.family == family)
    }
}

/// A plan's way to the kernel, step by step.
struct Work<'a> {
    edge: &'a mut Edge,
    family: Family,
    device: u32,
}

impl Work<'_> {
    /// Rules must know of a virtual server before it is there.
    fn enter(&mut self, plan: &Plan) -> Result<(), Error> {
        self.edge.edit_sets(self.family, true, &plan.entered)
    }

    /// Returns what the kernel refuses.
    fn serve(&mut self, plan: &Plan) -> Result<Vec<(Frontend, Refused)>, Error> {
        let refused = self.edge.edit_servers(&plan.served)?;
        self.edge.edit_addresses(self.device, true, &plan.bound)?;
        Ok(refused)
    }

    fn take_away(&mut self, plan: &Plan) -> Result<(), Error> {
        self.edge.edit_addresses(self.device, false, &plan.unbound)?;
        let refused = self.edge.edit_servers(&plan.unserved)?;
        if let Some((_, refusal)) = refused.into_iter().next() {
            return Err(kernel::Error::from(refusal).into());
        }
        self.edge.edit_sets(self.family, false, &plan.left)
    }
}

/// A scheduler with the options that it needs here.
fn with_options(scheduler: Scheduler) -> Scheduler {
    match scheduler.as_str() {
        // It would refuse clients that come to an endpoint that drains.
        "sh" => scheduler.falling_back(),
        // As kube-proxy has it.
        "mh" => scheduler.hashing_ports(),
        _ => scheduler,
    }
}

/// The schedulers that the kernel has.
fn offered(edge: &mut Edge) -> Result<Vec<&'static str>, Error> {
    let mut offered = Vec::new();
    for name in Scheduler::KNOWN {
        if let Ok(scheduler) = name.parse()
            && edge.servers.offers(&scheduler)?
        {
            offered.push(name);
        }
    }
    Ok(offered)
}
