//! The way to the tables of iptables, for every mode that has rules there: which back end, how large scripts may be, and
//! how we notice what others do.

use endpoint_cache::Family;
pub use kernel::iptables::Backend;
use kernel::iptables::{Iptables as Programs, OwnProcesses, Table};
use kernel::nft::{Family as NftFamily, Monitor, Nftables, Table as NftTable};

use super::script::{Script, Size};
use super::watch::{LegacyWatch, Sizes};
use crate::news::{Began, News};
use crate::{Error, Report, Settings, Watch};

/// Bytes of a script beyond which iptables-nft is given it in several runs: it looks for chains in time quadratic in
/// their number. iptables-legacy copies the whole table in each run, so it gets everything in one.
const PIECE: usize = 256 << 10;

/// Bytes of a script that every socket takes.
const SMALLEST: usize = 4 << 10;

/// What all families have in common.
pub(crate) struct Tables {
    pub(crate) backend: Backend,
    /// How large scripts may be.
    pub(crate) size: Size,
    /// What our own changes have left, for the legacy back end.
    pub(crate) sizes: Sizes,
    /// When the last full sync began, for the nft back end.
    began: Option<Began>,
    /// Transactions so far.
    commits: u32,
}

impl Tables {
    /// Finds the programs and sees whether the kernel has what they need; changes nothing. Without a back end that is
    /// asked for, the one that the node uses is. A node that can do it for IPv4 only is taken as it is.
    pub(crate) fn open(
        settings: &Settings,
        backend: Option<Backend>,
    ) -> Result<(Self, Vec<(Family, Programs)>), Error> {
        let backend = match backend {
            Some(backend) => backend,
            None => kernel::iptables::choose()?,
        };
        let mut families = Vec::new();
        for family in Family::BOTH.into_iter().filter(|family| settings.enables(*family)) {
            let programs = Programs::find(backend, family == Family::V6)?;
            // Whether the table can be had; it is small, whatever the services.
            match programs.save(Table::Mangle, |_| {}) {
                Ok(()) => families.push((family, programs)),
                Err(error) if !families.is_empty() => tracing::warn!("no {family}: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!(%backend, "iptables");
        let tables = Self { backend, size: size(backend), sizes: Sizes::default(), began: None, commits: 0 };
        Ok((tables, families))
    }

    /// Notes how things stand before anything is read.
    pub(crate) fn begins(&mut self) -> Result<(), Error> {
        if self.backend == Backend::Nft {
            self.began = Some(Began::now(&mut Nftables::open()?, self.commits)?);
        }
        Ok(())
    }

    /// Reads a family's rules and puts them right, while nobody else changes them as far as that can be had.
    pub(crate) fn put_right(
        &mut self,
        programs: &Programs,
        report: &mut Report,
        work: impl FnOnce(&mut Self, &mut Report) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.backend {
            Backend::Nft => work(self, report),
            Backend::Legacy => {
                let (before, sizes) = (report.operations, self.sizes.clone());
                sizes.resync(programs, || {
                    work(self, report)?;
                    Ok(report.operations - before)
                })
            }
        }
    }

    /// Hands a script to the kernel.
    pub(crate) fn run(
        &mut self,
        programs: &Programs,
        script: &Script,
        report: &mut Report,
    ) -> Result<(), Error> {
        let text = script.text();
        programs.restore(&text)?;
        self.commits = self.commits.wrapping_add(u32::try_from(script.commits()).unwrap_or(u32::MAX));
        report.operations += script.operations();
        report.bytes += text.len();
        let family = if programs.ipv6() { Family::V6 } else { Family::V4 };
        for (table, rules) in script.rules().filter(|(_, rules)| *rules > 0) {
            report.iptables_rules_of(family, table.as_str()).written += rules;
        }
        Ok(())
    }

    /// Makes the next scripts smaller after one was too large, if that may help: in a user namespace sockets may not be
    /// made to take more.
    pub(crate) fn shrink(&mut self, error: &Error) -> bool {
        let Error::Kernel(kernel::Error::ScriptTooLarge { bytes, .. }) = error else { return false };
        let smaller = bytes / 4;
        let shrinks = *bytes > SMALLEST && !matches!(self.size, Size::AtMost(most) if most <= smaller);
        if shrinks {
            tracing::info!(bytes = smaller, "iptables takes small scripts only: changes are made in pieces");
            self.size = Size::AtMost(smaller);
        }
        shrinks
    }

    /// Hears of what others do to our rules.
    pub(crate) fn watch(&self, families: Vec<Programs>) -> Result<Box<dyn Watch>, Error> {
        if self.backend == Backend::Legacy {
            return Ok(Box::new(LegacyWatch { sizes: self.sizes.clone(), families }));
        }
        let tables = families.iter().flat_map(|programs| {
            let family = if programs.ipv6() { NftFamily::Ip6 } else { NftFamily::Ip };
            Table::ALL.map(|table| NftTable { family, name: table.as_str().to_owned() })
        });
        // What else this program has in iptables, network policies, is written without touching what is a mode's.
        let own = OwnProcesses::of_this_program();
        let monitor = Monitor::open_for_mentions(tables.collect(), "KUBE-", own)?;
        Ok(Box::new(News::new(monitor, self.began, &mut Nftables::open()?, self.commits)?))
    }
}

/// How large scripts may be for a back end.
pub(super) fn size(backend: Backend) -> Size {
    match backend {
        Backend::Nft => Size::Pieces(PIECE),
        Backend::Legacy => Size::Any,
    }
}
