//! How fast pods are attached, what their packets cost on each way, and how soon Nodes become routes; beside Debian's plugins
//! and a bare veth pair.
//!
//! Every measurement is made in namespaces and a process of its own, as root. Run it by `cargo xtask bench cni`.

mod attach;
mod nodes;
mod path;
mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use benches::figures::Figures;
use benches::isolated;
use clap::{Parser, ValueEnum};
use testbed::isolation;

/// Measure the CNI plugin and the pod network.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench cni", max_term_width = 100)]
struct Cli {
    /// Only these measurements.
    #[arg(long, value_delimiter = ',', default_values_t = Measurement::value_variants().to_vec())]
    only: Vec<Measurement>,
    /// Pods that come and go.
    #[arg(long, default_value_t = 300)]
    pods: usize,
    /// Datagrams there and back on each way.
    #[arg(long, default_value_t = 20_000)]
    datagrams: usize,
    /// Where to write `cni.md`; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only this measurement, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: Option<Measurement>,
}

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// ADD and DEL.
    Attach,
    /// Packets.
    Path,
    /// From Nodes to routes.
    Nodes,
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
    benches::end("cni", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let mut figures = Figures::default();
    for measurement in &cli.only {
        eprintln!("{measurement} ...");
        figures.extend(isolated::measure(&args(cli, *measurement))?);
    }
    report::hand_out(&figures, cli.write_to.as_deref())
}

fn args(cli: &Cli, measurement: Measurement) -> Vec<OsString> {
    let numbers = [("--pods", cli.pods), ("--datagrams", cli.datagrams)];
    let numbers = numbers.into_iter().flat_map(|(flag, number)| [flag.into(), number.to_string()]);
    let what = ["--measure".to_owned(), measurement.to_string()];
    what.into_iter().chain(numbers).map(OsString::from).collect()
}

fn measure(cli: &Cli, measurement: Measurement) -> Result<()> {
    isolation::settle()?;
    let figures = match measurement {
        Measurement::Attach => attach::measure(cli.pods)?,
        Measurement::Path => path::measure(cli.datagrams)?,
        Measurement::Nodes => nodes::measure()?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
