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
//! what every node has. `program` turns changes into a `script`. All these are pure. `installed` reads what there is,
//! `watch` hears of what others do, `cleanup` takes all away, and this file brings all together.

mod base;
mod cleanup;
mod context;
mod endpoints;
mod installed;
mod names;
mod program;
mod rule;
mod script;
mod service;
#[cfg(test)]
mod tests;
mod watch;

use endpoint_cache::{Delta, Desired, Family, ServicePort};
pub use kernel::iptables::Backend;
use kernel::iptables::{Iptables as Programs, OwnProcesses, Table};
use kernel::nft::{Family as NftFamily, Monitor, Nftables, Table as NftTable};
use kernel::sysctl;

use self::context::Context;
use self::installed::Installed;
use self::program::{Program, Resync};
use self::script::{Script, Size};
use self::watch::{LegacyWatch, Sizes};
use crate::flows::Flows;
use crate::news::{Began, News};
use crate::{Error, Mode, Report, Settings, Watch};

/// Bytes of a script beyond which iptables-nft is given it in several runs: it looks for chains in time quadratic in
/// their number. iptables-legacy copies the whole table in each run, so it gets everything in one.
const PIECE: usize = 256 << 10;

/// Bytes of a script that every socket takes.
const SMALLEST: usize = 4 << 10;

/// Bytes of a script beyond which iptables-nft is not asked whether it would take it.
const REHEARSED: usize = 2 << 20;

/// The iptables mode.
pub struct Iptables {
    settings: Settings,
    backend: Backend,
    /// How large scripts may be.
    size: Size,
    flows: Flows,
    families: Vec<Programmed>,
    /// Our own changes, for the nft back end.
    own: OwnProcesses,
    /// When the last full sync began, likewise.
    began: Option<Began>,
    /// What our own changes have left, for the legacy back end.
    sizes: Sizes,
}

/// One family's rules.
struct Programmed {
    family: Family,
    programs: Programs,
    /// `None` until the first sync.
    program: Option<Program>,
    /// Transactions so far.
    commits: u32,
}

impl Iptables {
    /// Finds the programs and sees whether the kernel has what they need; changes nothing yet. Without a back end that
    /// is asked for, the one that the node uses is. A node that can do it for IPv4 only is taken as it is.
    ///
    /// # Errors
    /// When iptables is not installed, or the kernel lacks something.
    pub fn new(settings: Settings, backend: Option<Backend>) -> Result<Self, Error> {
        let backend = match backend {
            Some(backend) => backend,
            None => kernel::iptables::choose()?,
        };
        let (mut families, own) = (Vec::new(), OwnProcesses::default());
        for family in Family::BOTH.into_iter().filter(|family| settings.enables(*family)) {
            let programs = Programs::find(backend, family == Family::V6)?.counted_among(own.clone());
            // Whether the table can be had; it is small, whatever the services.
            match programs.save(Table::Mangle, |_| {}) {
                Ok(()) => families.push(Programmed { family, programs, program: None, commits: 0 }),
                Err(error) if !families.is_empty() => tracing::warn!("no {family}: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!(%backend, "iptables");
        Ok(Self {
            settings,
            backend,
            size: size(backend),
            flows: Flows::open()?,
            families,
            own,
            began: None,
            sizes: Sizes::default(),
        })
    }

    /// The back end in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    fn resync_family(&mut self, at: usize, desired: &Desired, report: &mut Report) -> Result<(), Error> {
        let family = &mut self.families[at];
        let context = Context::new(family.family, &self.settings, desired);
        let localhost = base::serves_localhost(&context);
        match self.backend {
            Backend::Nft => family.resync(context, desired, self.size, report)?,
            Backend::Legacy => {
                let (before, programs) = (report.operations, family.programs.clone());
                self.sizes.resync(&programs, || {
                    family.resync(context, desired, self.size, report)?;
                    Ok(report.operations - before)
                })?;
            }
        }
        // Not before the rule that keeps others away from it.
        if localhost {
            route_localhost();
        }
        Ok(())
    }

    /// Notes how things stand before anything is read.
    fn begins(&mut self) -> Result<(), Error> {
        if self.backend == Backend::Nft {
            self.began = Some(Began::now(&mut Nftables::open()?, self.commits())?);
        }
        Ok(())
    }

    /// Transactions so far, of all families.
    fn commits(&self) -> u32 {
        self.families.iter().map(|family| family.commits).fold(0, u32::wrapping_add)
    }

    /// Makes the next scripts smaller after one was too large, if that may help: in a user namespace sockets may not be
    /// made to take more.
    fn shrink(&mut self, error: &Error) -> bool {
        let Error::Kernel(kernel::Error::ScriptTooLarge { bytes, .. }) = error else { return false };
        let smaller = bytes / 4;
        let shrinks = *bytes > SMALLEST && !matches!(self.size, Size::AtMost(most) if most <= smaller);
        if shrinks {
            tracing::info!(bytes = smaller, "iptables takes small scripts only: changes are made in pieces");
            self.size = Size::AtMost(smaller);
        }
        shrinks
    }
}

/// How large scripts may be for a back end.
fn size(backend: Backend) -> Size {
    match backend {
        Backend::Nft => Size::Pieces(PIECE),
        Backend::Legacy => Size::Any,
    }
}

impl Mode for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let mut report = Report::default();
        self.begins()?;
        for at in 0..self.families.len() {
            let mut result = self.resync_family(at, desired, &mut report);
            while result.as_ref().is_err_and(|error| self.shrink(error)) {
                // Some of what was too large may have been done all the same, and is not counted.
                self.begins()?;
                result = self.resync_family(at, desired, &mut report);
            }
            result?;
        }
        report.flows_removed = self.flows.remove_stale(desired);
        Ok(report)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let (mut report, size, sizes) = (Report::default(), self.size, &self.sizes);
        let result = self.families.iter_mut().try_for_each(|family| match self.backend {
            Backend::Nft => family.apply(delta, size, &mut report),
            Backend::Legacy => {
                let programs = family.programs.clone();
                sizes.change(&programs, || family.apply(delta, size, &mut report))
            }
        });
        if let Err(error) = result {
            self.shrink(&error);
            return Err(error);
        }
        report.flows_removed = self.flows.remove_after(&delta.changes);
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
                if self.backend == Backend::Legacy || text.len() <= REHEARSED {
                    family.programs.rehearse(&text)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing is left without use: chains go with the rules that lead to them.
    fn tidy(&mut self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    fn watch(&mut self) -> Result<Box<dyn Watch>, Error> {
        let families: Vec<_> = self.families.iter().map(|family| family.programs.clone()).collect();
        if self.backend == Backend::Legacy {
            return Ok(Box::new(LegacyWatch { sizes: self.sizes.clone(), families }));
        }
        let tables = families.iter().flat_map(|programs| {
            let family = if programs.ipv6() { NftFamily::Ip6 } else { NftFamily::Ip };
            Table::ALL.map(|table| NftTable { family, name: table.as_str().to_owned() })
        });
        let monitor = Monitor::open_for_mentions(tables.collect(), "KUBE-", self.own.clone())?;
        Ok(Box::new(News::new(monitor, self.began, &mut Nftables::open()?, self.commits())?))
    }
}

impl Programmed {
    fn resync(
        &mut self,
        context: Context,
        desired: &Desired,
        size: Size,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.program = None;
        let mut resync = Resync::new(context, Installed::read(&self.programs)?, size);
        for service in self.services(desired) {
            if let Some(ahead) = resync.add(service) {
                self.run(&ahead, report)?;
            }
        }
        let (program, rest, removals) = resync.finish();
        rest.iter().try_for_each(|script| self.run(script, report))?;
        for removal in removals {
            // Rules of others may lead to a chain that is ours to remove; that harms nobody.
            if let Err(error) = self.run(&removal, report) {
                tracing::warn!(family = %self.family, "chains without use are left: {error}");
            }
        }
        self.program = Some(program);
        Ok(())
    }

    fn apply(&mut self, delta: &Delta, size: Size, report: &mut Report) -> Result<(), Error> {
        let Some(mut program) = self.program.take() else { return Err(Error::NotSynced) };
        for script in program.update(&delta.changes, size) {
            self.run(&script, report)?;
        }
        self.program = Some(program);
        Ok(())
    }

    /// The service ports of this family.
    fn services<'a>(&self, desired: &'a Desired) -> impl Iterator<Item = &'a ServicePort> + use<'a> {
        let family = self.family;
        desired.service_ports.iter().map(AsRef::as_ref).filter(move |service| service.family == family)
    }

    fn run(&mut self, script: &Script, report: &mut Report) -> Result<(), Error> {
        let text = script.text();
        self.programs.restore(&text)?;
        self.commits = self.commits.wrapping_add(u32::try_from(script.commits()).unwrap_or(u32::MAX));
        report.operations += script.operations();
        report.bytes += text.len();
        Ok(())
    }
}

/// Lets node ports answer on 127.0.0.1. Everything else works without.
fn route_localhost() {
    const NAME: &str = "net.ipv4.conf.all.route_localnet";
    match sysctl::set(NAME, "1") {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            name = NAME,
            value = 1,
            "set, so that node ports answer on 127.0.0.1; --iptables-localhost-nodeports=false leaves it alone"
        ),
        Err(error) => tracing::warn!(
            "node ports do not answer on 127.0.0.1: {error}; --iptables-localhost-nodeports=false asks for no more"
        ),
    }
}

/// Removes the chains that kube-proxy has too, from these back ends, and nothing else; says how many chains and rules
/// there were. A back end that is not installed has none.
///
/// # Errors
/// When the rules cannot be read, or are not let go of.
pub fn cleanup(backends: &[Backend]) -> Result<usize, Error> {
    backends.iter().try_fold(0, |removed, backend| Ok(removed + cleanup::run(*backend)?))
}
