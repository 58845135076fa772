//! Services and endpoints that come, change and go for as long as one likes, with connections all the time: none to a
//! healthy service may fail, nothing may leak, and what is in the kernel at the end is what a fresh start puts there.
//!
//! The process is killed and started again now and then, and somebody flushes the rules; both in the first part, so that
//! the rest tells whether memory grows. Runs in namespaces of its own, without privileges. Run it by
//! `cargo xtask bench soak`; see `world` for who is there, `model` for what is allowed to fail.

mod canonical;
mod churn;
mod model;
mod report;
mod traffic;
mod world;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use testbed::{Mode, isolation, mode};

/// Churn with traffic, and see what fails or leaks.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench soak", max_term_width = 100)]
struct Cli {
    /// How long.
    #[arg(long, value_name = "MINUTES", default_value_t = 2, conflicts_with = "seconds")]
    minutes: u64,
    /// How long, for the impatient; half a minute at least.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(30..))]
    seconds: Option<u64>,
    /// The mode: nftables, iptables-nft, iptables-legacy, userspace, or ipvs, which takes root and a kernel that has it.
    #[arg(long, value_name = "MODE", default_value = "nftables", value_parser = mode_of)]
    mode: Mode,
    /// The machine has other work: one connection in a thousand may be lost, to whichever service.
    #[arg(long)]
    busy: bool,
    /// Dice are thrown the same way in every run of the same seed.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

fn mode_of(name: &str) -> Result<Mode, &'static str> {
    const MODES: [Mode; 5] =
        [mode::NFTABLES, mode::IPTABLES_NFT, mode::IPTABLES_LEGACY, mode::USERSPACE, mode::IPVS];
    let found = MODES.into_iter().find(|mode| mode.name == name);
    found.ok_or("the modes are nftables, iptables-nft, iptables-legacy, userspace and ipvs")
}

impl Cli {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(60 * self.minutes.max(1)))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = if isolation::is_isolated() { soak(&cli) } else { isolate(&cli) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again in namespaces of its own.
fn isolate(cli: &Cli) -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = isolation::this_program_as(cli.mode.privileges, &args)?;
    let mut child = command.stdin(Stdio::piped()).spawn().context("cannot run unshare")?;
    // Closing its input would end it.
    let _input = child.stdin.take();
    let status = child.wait()?;
    ensure!(status.success(), "failed");
    Ok(())
}

fn soak(cli: &Cli) -> Result<()> {
    isolation::settle()?;
    let mut world = world::World::new(cli.mode, cli.seed)?;
    let outcome = churn::run(&mut world, cli.duration(), cli.busy)?;
    report::print(&outcome, cli.mode);
    ensure!(outcome.failures.is_empty(), "{} things went wrong, see above", outcome.failures.len());
    Ok(())
}
