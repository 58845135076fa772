//! `pointsman fanout`: opens connections to a Service, learns which endpoint answers each, and says whether they are
//! spread as they ought to be. `pointsman respond`: a server to do it with.
//!
//! Start reading at [`load`], which opens connections; [`teller`] learns who answered; [`report`] says what came of it.

mod failure;
mod load;
mod plot;
mod progress;
mod report;
pub(crate) mod responder;
mod socket;
mod spread;
mod table;
mod tally;
mod target;
mod teller;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail, ensure};

use self::load::{Amount, Load};
use self::progress::Progress;
use self::report::{Circumstances, Report};
use self::socket::Path;
use self::target::Target;
use self::teller::Teller;
use crate::cli::FanoutFlags;
use crate::output;

/// Connections if nothing is said.
const DEFAULT: u64 = 1000;
/// Descriptors that are not for connections.
const RESERVED: u64 = 32;

/// Measures, and prints what came of it.
///
/// # Errors
/// When it cannot be measured, or nothing was answered at all.
pub(crate) fn run(flags: &FanoutFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let picture = flags.plot.as_deref().map(plot::Picture::at).transpose()?;
    let target = Target::find(&flags.target, flags.udp, socket)?;
    socket::check_sources(&flags.from, target.address)?;
    check_descriptors(flags)?;
    let load = load(flags, &target);
    let source = flags.from.first().copied();
    let mut teller = Teller::choose(flags.by, &load.path, source, flags.timeout)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
        .context("cannot listen for an interruption")?;
    let mut progress = Progress::new(&load);
    let tally = load.run(&mut teller, &mut |tally, elapsed| {
        progress.show(tally, elapsed);
        !interrupted.load(Ordering::Relaxed)
    })?;
    drop(progress);
    let circumstances = Circumstances { target: &target, load: &load, told_by: teller.told() };
    let report = report::report(&tally, &circumstances);
    if let Some(picture) = picture {
        picture.draw(&report)?;
    }
    output::show(&report, flags.output, table::render)?;
    ensure!(report.connections.answered > 0, "{}", nothing(&report));
    Ok(())
}

fn load(flags: &FanoutFlags, target: &Target) -> Load {
    let count = flags.connections.map_or(DEFAULT, std::num::NonZeroU64::get);
    Load {
        path: Path { target: target.address, udp: flags.udp, close: flags.close },
        amount: flags.duration.map_or(Amount::Count(count), Amount::Time),
        concurrency: flags.concurrency.get(),
        sources: flags.from.clone(),
        timeout: flags.timeout,
        kept_alive: flags.kept_alive,
    }
}

fn check_descriptors(flags: &FanoutFlags) -> anyhow::Result<()> {
    let limit = kernel::socket::raise_descriptor_limit()?;
    let most = limit.saturating_sub(RESERVED);
    if flags.concurrency.get() as u64 > most {
        bail!(
            "-c {} takes more open files than this process may have: raise the limit of {limit} (ulimit -Hn), or give \
             {most} at most",
            flags.concurrency
        );
    }
    Ok(())
}

fn nothing(report: &Report) -> String {
    let causes = report.failures.iter().map(|failure| format!("{} {}", failure.count, failure.cause.words()));
    let advice = report.failures.first().map(|failure| failure.advice.as_str()).unwrap_or_default();
    let causes = causes.collect::<Vec<_>>().join(", ");
    format!("no connection to {} was answered ({causes}): {advice}", report.target)
}
