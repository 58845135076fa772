//! Policies enforced by iptables and ipsets, for nodes whose proxy is on iptables or ipvs.
//!
//! # Theory of operation
//!
//! All is in table `filter`, in chains named as kube-router names them. Whatever is forwarded, routed or bridged, comes
//! first of all to `KUBE-POLICY-FORWARD`; so does what the node sends under an address that is not its own (`IPVS` and
//! transparent proxies), by way of `KUBE-POLICY-OUTPUT`. At that point, destinations have been translated and sources
//! have not been, so packets of a connection's first direction show who really connects to whom, and replies show the
//! same the other way round.
//!
//! - A connection whose mark has the *generation* that is in force passes: it was judged before.
//! - Others are judged: by `KUBE-POLICY-ORIGINAL` where they go to the server, and by `KUBE-POLICY-REPLY` where they come
//!   back, so that a connection is ended too on which only the server speaks. Each has a rule for each profile, which
//!   looks for the isolated pod in the set of the pods with that profile, and leads to the profile's chain.
//! - `KUBE-POD-FW-…` (for replies `KUBE-POD-FR-…`) is the chain of a profile. It asks one policy after the other:
//! - `KUBE-NWPLCY-…` (`KUBE-NWPLCR-…`) is the chain of a policy in a direction, with a rule for each clause. One that
//!   matches notes it in a bit of the packet's mark (`KUBE-POLICY-ALLOW`), and the profile's chain is left, so that the
//!   other end may be judged too.
//! - What no policy of a profile allows ends in `KUBE-POLICY-DENY`.
//! - What nobody denied gets the generation in force into its connection's mark.
//!
//! When less is allowed than before, another generation begins, and every connection is judged once more by its next
//! packet, whoever sends it.
//!
//! Rules and sets cannot change at the same moment. So what is allowed no longer goes first, then the rules change at once,
//! then comes what is allowed newly, and the generation only then: see `plan.rs`. A pod that changes its labels takes
//! two changes of sets.
//!
//! # Where things are
//!
//! `names`, `sets` and `rules` are the words of the language, `marks` those of connections. `whole` is all that a
//! program asks for, `plan` what a delta does, `script` the input for `iptables-restore`. These are pure. `installed`
//! reads what there is and tells how it differs, `family` does what is planned, `watch` hears of what others do,
//! `cleanup` takes all away.

mod cleanup;
mod family;
mod installed;
mod marks;
mod names;
mod plan;
mod rules;
mod script;
mod sets;
#[cfg(test)]
mod tests;
mod watch;
mod whole;

use std::time::Instant;

use endpoint_cache::Family;
use kernel::ipset::Ipsets;
use kernel::iptables::{Backend, Iptables as Programs, OwnProcesses, SavedLine, Table};
use kernel::nft::Monitor;

pub use self::cleanup::cleanup;
use self::family::{Means, Programmed, Tally};
pub use self::names::is_own_chain;
pub use self::rules::asks_whether_to_itself;
use crate::enforcer::{Counts, Enforcer, Error, Report, Watch};
use crate::program::{Delta, Program};
use crate::settings::Settings;

/// Enforces policies by iptables.
pub struct Iptables {
    settings: Settings,
    backend: Backend,
    families: Vec<Programmed>,
    ipsets: Ipsets,
    own: OwnProcesses,
    /// How large we left the tables of iptables-legacy.
    sizes: watch::Sizes,
    /// Listens from the beginning, until somebody wants to hear.
    monitor: Option<Monitor>,
}

impl Iptables {
    /// Finds the programs and sees whether the kernel has what they need; changes nothing yet. Without a back end that is
    /// asked for, the one that the node uses is. A node that can do it for IPv4 only is taken as it is.
    ///
    /// # Errors
    /// When iptables is not installed, or the kernel lacks something.
    pub fn new(settings: Settings, backend: Option<Backend>) -> Result<Self, Error> {
        let backend = match backend {
            Some(backend) => backend,
            None => kernel::iptables::choose()?,
        };
        let (mut families, own) = (Vec::new(), OwnProcesses::default());
        for family in Family::BOTH.into_iter().filter(|family| settings.families.contains(family)) {
            let programs = Programs::find(backend, family == Family::V6)?.counted_among(own.clone());
            match programs.save(Table::Filter, |_| {}) {
                Ok(()) => families.push(Programmed::new(family, programs)),
                Err(error) if !families.is_empty() => tracing::warn!("no policies for {family}: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        let monitor = watch::listen(backend, &own)?;
        tracing::info!(%backend, "network policies by iptables");
        Ok(Self {
            settings,
            backend,
            families,
            ipsets: Ipsets::open()?,
            own,
            sizes: watch::Sizes::default(),
            monitor,
        })
    }

    /// The back end in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    fn each(
        &mut self,
        now: Instant,
        mut work: impl FnMut(&mut Programmed, &mut Means<'_>) -> Result<(), Error>,
    ) -> Result<Report, Error> {
        let mut report = Report::default();
        let mut means =
            Means { settings: &self.settings, now, ipsets: &mut self.ipsets, report: &mut report };
        for family in &mut self.families {
            if self.backend == Backend::Nft {
                work(family, &mut means)?;
                continue;
            }
            // So that nobody changes what was read until it is put right. iptables-nft has no such lock.
            let programs = family.programs.clone();
            let _lock = programs.lock()?;
            work(family, &mut means)?;
            self.sizes.note(&programs)?;
        }
        Ok(report)
    }
}

impl Enforcer for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn is_in_force(&mut self) -> Result<bool, Error> {
        let mut found = false;
        for family in &self.families {
            let entry = SavedLine::Chain(names::FORWARD);
            family.programs.save(Table::Filter, |line| found |= line == entry)?;
        }
        Ok(found)
    }

    fn resync(&mut self, program: &Program) -> Result<Report, Error> {
        self.each(Instant::now(), |family, means| family.resync(program, means))
    }

    fn apply(&mut self, program: &Program, delta: &Delta) -> Result<Report, Error> {
        self.each(Instant::now(), |family, means| family.apply(program, delta, means))
    }

    fn due(&self) -> Option<Instant> {
        self.families.iter().filter_map(Programmed::due).min()
    }

    fn tidy(&mut self, now: Instant) -> Result<Report, Error> {
        self.each(now, Programmed::tidy)
    }

    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, Error> {
        if self.backend == Backend::Legacy {
            let families = self.families.iter().map(|family| family.programs.clone()).collect();
            return Ok(Some(Box::new(watch::Look { sizes: self.sizes.clone(), families })));
        }
        let monitor = match self.monitor.take() {
            Some(monitor) => Some(monitor),
            None => watch::listen(self.backend, &self.own)?,
        };
        Ok(monitor.map(|monitor| Box::new(watch::News(monitor)) as Box<dyn Watch>))
    }

    fn counts(&mut self) -> Result<Counts, Error> {
        let mut tally = Tally::default();
        self.families.iter().try_for_each(|family| family.count(&mut tally))?;
        Ok(tally.finish())
    }
}
