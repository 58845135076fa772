//! iptables mode: the chains that kube-proxy makes, by their names.
//!
//! # Theory of operation
//!
//! A new connection comes from `PREROUTING` (or `OUTPUT`) of table `nat` to `KUBE-SERVICES`, where a rule for each
//! frontend leads to a chain of the service port's own; its last rule leads what is for the node itself on to
//! `KUBE-NODEPORTS`. The rest of a chain's name is a hash of the service port's name:
//!
//! - `KUBE-SVC-…` has a rule for each endpoint: the first of three is taken with probability 1/3, the second with 1/2
//!   of what is left, the last always. `KUBE-SVL-…` is the same for endpoints of this node, for policy Local.
//! - `KUBE-SEP-…`, one for each endpoint, translates the destination.
//! - `KUBE-EXT-…` is for what comes to node ports, external and load-balancer addresses: it is marked for masquerading,
//!   or, under policy Local, only what comes from this node is.
//! - `KUBE-FW-…` lets only the clients in `loadBalancerSourceRanges` go on; others are dropped in table `filter`, by
//!   `KUBE-PROXY-FIREWALL`.
//! - Session affinity: each endpoint's chain notes its clients in a list of the `recent` extension, and rules before the
//!   others in `KUBE-SVC-…` look there.
//!
//! What has no endpoints is refused in table `filter`, by `KUBE-SERVICES` and `KUBE-EXTERNAL-SERVICES`. Marked traffic is
//! masqueraded by `KUBE-POSTROUTING`.
//!
//! A change writes the chains whose rules have become others, and adds and removes single rules in the chains that all
//! service ports share. What it takes to read the tables back is spared: each change is rendered as it was and as it is.
//!
//! # Where things are
//!
//! `names` and `rule` are the words of the language, `service` and `endpoints` what a service port has to say, `base`
//! what every node has, in the words of `layout`. `program` turns changes into a `script`. All these are pure. `tables` is
//! the way to the kernel, `installed` reads what there is, `compare` tells what differs there, `watch` hears of what others do, `cleanup` takes all away, and
//! this file brings all together. The ipvs mode has rules too, by way of `layout` and `tables`.

mod base;
mod cleanup;
mod compare;
mod context;
mod endpoints;
pub(crate) mod installed;
pub(crate) mod layout;
mod names;
mod program;
pub(crate) mod rule;
pub(crate) mod script;
mod service;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Once;

use endpoint_cache::{Delta, Desired, Family, ServicePort};
use kernel::iptables::Iptables as Programs;
use kernel::sysctl;

use self::context::Context;
use self::installed::Installed;
use self::program::{Program, Resync};
use self::script::{Script, Size};
pub use self::tables::Backend;
use self::tables::Tables;
use crate::flows::Flows;
use crate::{Comparison, Error, Mode, Report, Settings, Watch};

/// Bytes of a script beyond which iptables-nft is not asked whether it would take it.
const REHEARSED: usize = 2 << 20;

/// The iptables mode.
pub struct Iptables {
    settings: Settings,
    tables: Tables,
    flows: Flows,
    families: Vec<Programmed>,
}

/// One family's rules.
struct Programmed {
    family: Family,
    programs: Programs,
    /// `None` until the first sync.
    program: Option<Program>,
}

impl Iptables {
    /// Finds the programs and sees whether the kernel has what they need; changes nothing yet. Without a back end that
    /// is asked for, the one that the node uses is. A node that can do it for IPv4 only is taken as it is.
    ///
    /// # Errors
    /// When iptables is not installed, or the kernel lacks something.
    pub fn new(settings: Settings, backend: Option<Backend>) -> Result<Self, Error> {
        let (tables, families) = Tables::open(&settings, backend)?;
        let families = families.into_iter();
        let families =
            families.map(|(family, programs)| Programmed { family, programs, program: None }).collect();
        Ok(Self { settings, tables, flows: Flows::open()?, families })
    }

    /// The back end in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.tables.backend
    }

    /// The programs of each family.
    pub(crate) fn programs(&self) -> Vec<Programs> {
        self.families.iter().map(|family| family.programs.clone()).collect()
    }

    fn resync_family(&mut self, at: usize, desired: &Desired, report: &mut Report) -> Result<(), Error> {
        let family = &mut self.families[at];
        let context = Context::new(family.family, &self.settings, desired);
        let localhost = base::serves_localhost(&context);
        let programs = family.programs.clone();
        self.tables
            .put_right(&programs, report, |tables, report| family.resync(context, desired, tables, report))?;
        // Not before the rule that keeps others away from it.
        if localhost {
            route_localhost();
        }
        Ok(())
    }
}

impl Mode for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn families(&self) -> Vec<Family> {
        self.families.iter().map(|programmed| programmed.family).collect()
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let mut report = Report::default();
        self.tables.begins()?;
        for at in 0..self.families.len() {
            let mut result = self.resync_family(at, desired, &mut report);
            while result.as_ref().is_err_and(|error| self.tables.shrink(error)) {
                // Some of what was too large may have been done all the same, and is not counted.
                self.tables.begins()?;
                result = self.resync_family(at, desired, &mut report);
            }
            result?;
        }
        report.cleanings = self.flows.remove_stale(desired);
        Ok(report)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let (mut report, tables) = (Report::default(), &mut self.tables);
        let result = self.families.iter_mut().try_for_each(|family| match tables.backend {
            Backend::Nft => family.apply(delta, tables, &mut report),
            Backend::Legacy => {
                let (programs, sizes) = (family.programs.clone(), tables.sizes.clone());
                sizes.change(&programs, || family.apply(delta, tables, &mut report))
            }
        });
        if let Err(error) = result {
            self.tables.shrink(&error);
            return Err(error);
        }
        report.cleanings = self.flows.remove_after(&delta.changes);
        Ok(report)
    }

    /// What is to be written beside what is there. iptables-legacy only checks its grammar.
    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error> {
        for family in &self.families {
            let context = Context::new(family.family, &self.settings, desired);
            let mut resync = Resync::new(context, Installed::read(&family.programs)?, Size::Any);
            family.services(desired).for_each(|service| drop(resync.add(service)));
            let (_, scripts, _) = resync.finish();
            for text in scripts.iter().map(Script::text) {
                // Asking for that much would take longer than all the answers are worth.
                if self.tables.backend == Backend::Legacy || text.len() <= REHEARSED {
                    family.programs.rehearse(&text)?;
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        let mut comparison = Comparison::default();
        for family in &self.families {
            let context = Context::new(family.family, &self.settings, desired);
            compare::run(&family.programs, &context, family.services(desired), &mut comparison)?;
        }
        Ok(comparison)
    }

    /// Nothing is left without use: chains go with the rules that lead to them.
    fn reconfigure(&mut self, settings: &Settings) -> bool {
        let Settings { ipv4, ipv6, .. } = self.settings;
        self.settings = Settings { ipv4, ipv6, ..settings.clone() };
        true
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        self.tables.watch(self.families.iter().map(|family| family.programs.clone()).collect())
    }
}

impl Programmed {
    fn resync(
        &mut self,
        context: Context,
        desired: &Desired,
        tables: &mut Tables,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.program = None;
        let mut resync = Resync::new(context, Installed::read(&self.programs)?, tables.size);
        for service in self.services(desired) {
            if let Some(ahead) = resync.add(service) {
                tables.run(&self.programs, &ahead, report)?;
            }
        }
        let (program, rest, removals) = resync.finish();
        rest.iter().try_for_each(|script| tables.run(&self.programs, script, report))?;
        for removal in removals {
            // Rules of others may lead to a chain that is ours to remove; that harms nobody.
            if let Err(error) = tables.run(&self.programs, &removal, report) {
                tracing::warn!(family = %self.family, "chains without use are left: {error}");
            }
        }
        self.keep(program, report);
        Ok(())
    }

    /// Remembers what is programmed.
    fn keep(&mut self, program: Program, report: &mut Report) {
        for (table, rules) in program.rules() {
            report.iptables_rules_of(self.family, table.as_str()).total = rules;
        }
        self.program = Some(program);
    }

    fn apply(&mut self, delta: &Delta, tables: &mut Tables, report: &mut Report) -> Result<(), Error> {
        let Some(mut program) = self.program.take() else { return Err(Error::NotSynced) };
        for script in program.update(&delta.changes, tables.size) {
            tables.run(&self.programs, &script, report)?;
        }
        self.keep(program, report);
        Ok(())
    }

    /// The service ports of this family.
    fn services<'a>(&self, desired: &'a Desired) -> impl Iterator<Item = &'a ServicePort> + use<'a> {
        let family = self.family;
        desired.service_ports.iter().map(AsRef::as_ref).filter(move |service| service.family == family)
    }
}

const ROUTE_LOCALNET: &str = "net.ipv4.conf.all.route_localnet";

/// Lets node ports answer on 127.0.0.1. Everything else works without; that it cannot be is said once.
fn route_localhost() {
    static TOLD: Once = Once::new();
    if let Err(error) = allow_routing_of_localhost() {
        TOLD.call_once(|| {
            tracing::warn!(
                "node ports do not answer on 127.0.0.1: {error}; --iptables-localhost-nodeports=false asks for no more"
            );
        });
    }
}

fn allow_routing_of_localhost() -> Result<(), kernel::Error> {
    if sysctl::set(ROUTE_LOCALNET, "1")? {
        tracing::info!(
            name = ROUTE_LOCALNET,
            value = 1,
            "set, so that node ports answer on 127.0.0.1; --iptables-localhost-nodeports=false leaves it alone"
        );
    }
    Ok(())
}

/// Sets the kernel parameters that this mode takes, which a container may not.
///
/// # Errors
/// When one cannot be set.
pub fn initialise(settings: &Settings) -> Result<(), Error> {
    // As it is set at work: by the same ranges.
    if settings.ipv4 && settings.localhost_node_ports {
        allow_routing_of_localhost()?;
    }
    Ok(())
}

/// Removes the chains that kube-proxy has too, from these back ends, and nothing else; says how many chains and rules
/// there were. A back end that is not installed has none.
///
/// # Errors
/// When the rules cannot be read, or are not let go of.
pub fn cleanup(backends: &[Backend]) -> Result<usize, Error> {
    backends.iter().try_fold(0, |removed, backend| Ok(removed + cleanup::run(*backend)?))
}
