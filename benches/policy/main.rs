//! How policies fare in a large cluster, by nftables and by iptables: compiling, loading, changing, what they cost packets,
//! and what they hold; beside the kernel alone, and beside a node without policies.
//!
//! Every measurement is made in namespaces and a process of its own, as root. Run it by `cargo xtask bench policy`.

mod changes;
mod contender;
mod floor;
mod inside;
mod memory;
mod network;
mod path;
mod report;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::figures::Figures;
use benches::isolated;
use clap::{Parser, ValueEnum};
use testbed::isolation;

use contender::Contender;

/// Measure policies in a large cluster.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench policy", max_term_width = 100)]
struct Cli {
    /// What enforces them.
    #[arg(long, value_delimiter = ',', default_values_t = Contender::value_variants().to_vec())]
    by: Vec<Contender>,
    /// Only these measurements.
    #[arg(long, value_delimiter = ',', default_values_t = Measurement::value_variants().to_vec())]
    only: Vec<Measurement>,
    /// Changes of each sort, by nftables.
    #[arg(long, default_value_t = 500)]
    changes: u32,
    /// The same by iptables, which takes longer.
    #[arg(long, default_value_t = 50)]
    iptables_changes: u32,
    /// Rounds of sending packets.
    #[arg(long, default_value_t = 2_000)]
    rounds: usize,
    /// Where to write `policy.md`; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only this measurement, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: Option<Measurement>,
}

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The compiler and the enforcer.
    Inside,
    /// Packets.
    Path,
    /// What the compiler and the kernel hold.
    Memory,
    /// What the binary holds.
    Binary,
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.measure {
        Some(measurement) => measure(&cli, measurement),
        None => measure_all(&cli),
    };
    benches::end("policy", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let mut figures = Figures::default();
    for measurement in &cli.only {
        for by in &cli.by {
            eprintln!("{by}: {measurement} ...");
            figures.extend(isolated::measure(&args(cli, *measurement, *by))?);
        }
    }
    report::hand_out(&figures, cli.write_to.as_deref())
}

fn args(cli: &Cli, measurement: Measurement, by: Contender) -> Vec<OsString> {
    let numbers = [
        ("--changes", cli.changes.to_string()),
        ("--iptables-changes", cli.iptables_changes.to_string()),
        ("--rounds", cli.rounds.to_string()),
    ];
    let numbers = numbers.into_iter().flat_map(|(flag, number)| [flag.into(), number.into()]);
    let what = ["--measure".to_owned(), measurement.to_string(), "--by".to_owned(), by.to_string()];
    what.into_iter().map(OsString::from).chain(numbers).collect()
}

fn measure(cli: &Cli, measurement: Measurement) -> Result<()> {
    let by = *cli.by.first().context("nothing enforces")?;
    isolation::settle()?;
    let changes = if by == Contender::Nftables { cli.changes } else { cli.iptables_changes };
    let figures = match measurement {
        Measurement::Inside => inside::measure(by, changes)?,
        Measurement::Path => path::measure(by, cli.rounds)?,
        Measurement::Memory => memory::measure(by)?,
        Measurement::Binary => memory::measure_binary(by)?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
