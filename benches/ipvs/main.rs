//! How the IPVS mode fares: loading, restarting and changing beside the same messages without the mode, connections through
//! it and through the other modes beside direct ones, and memory.
//!
//! Hosts may have no IPVS, so it runs in the virtual machine that suites run in, each measurement in namespaces and
//! a process of its own. The machine is emulated: what counts is how figures of one run compare. Run it by `cargo xtask
//! bench ipvs`.

mod contender;
mod floor;
mod inside;
mod load;
mod machine;
mod memory;
mod path;
mod report;
mod workload;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::figures::Figures;
use benches::isolated;
use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use testbed::{isolation, vm};

use contender::Contender;

/// Measure the IPVS mode, in the virtual machine.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench ipvs", max_term_width = 100)]
struct Cli {
    /// Numbers of services, with ten endpoints each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    sizes: Vec<u32>,
    /// Numbers of services to connect through.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 5_000])]
    path_sizes: Vec<u32>,
    /// Where to write `ipvs.md`; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    #[command(flatten)]
    step: Option<Step>,
}

/// One measurement, as the machine is asked for it.
#[derive(Args, Clone, Copy, Debug)]
struct Step {
    /// Only this measurement, in the machine.
    #[arg(long, hide = true, required = false)]
    measure: Measurement,
    /// Of whom.
    #[arg(long, hide = true, required = false)]
    of: Contender,
    /// Number of services.
    #[arg(long, hide = true, required = false)]
    services: u32,
}

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The mode by itself, and its messages alone.
    Inside,
    /// Connections through it.
    Path,
    /// What the binary uses.
    Memory,
}

/// What came of a measurement.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    figures: Figures,
    /// Sentences on the machine.
    notes: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (cli.step, isolation::is_isolated()) {
        (None, _) => measure_all(&cli),
        (Some(step), false) => hand_over(step),
        (Some(step), true) => measure(step),
    };
    benches::end("ipvs", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let of = |measure, of| move |services: &u32| Step { measure, of, services: *services };
    let inside = cli.sizes.iter().map(of(Measurement::Inside, Contender::Ipvs));
    let path = Contender::ALL.iter().flat_map(|each| cli.path_sizes.iter().map(of(Measurement::Path, *each)));
    let memory = Contender::MEASURED_BINARIES.iter();
    let memory = memory.flat_map(|each| cli.sizes.iter().map(of(Measurement::Memory, *each)));
    let steps: Vec<Step> = inside.chain(path).chain(memory).collect();
    report::hand_out(&machine::run(&steps)?, cli.write_to.as_deref())
}

impl Step {
    fn args(self) -> Result<Vec<String>> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            Ok::<_, anyhow::Error>(value.context("a choice without a name")?.get_name().to_owned())
        };
        let measure = ["--measure".to_owned(), name(self.measure.to_possible_value())?];
        let of = ["--of".to_owned(), name(self.of.to_possible_value())?];
        let services = ["--services".to_owned(), self.services.to_string()];
        Ok([measure, of, services].concat())
    }
}

/// In the machine: has a measurement made in namespaces of its own, and tells the host what came of it.
fn hand_over(step: Step) -> Result<()> {
    let args: Vec<OsString> = step.args()?.into_iter().map(OsString::from).collect();
    let measured: Measured = isolated::measure(&args)?;
    println!("{}", vm::measured(&serde_json::to_value(measured)?));
    Ok(())
}

/// In namespaces of the machine.
fn measure(Step { measure, of, services }: Step) -> Result<()> {
    isolation::settle()?;
    let measured = match measure {
        Measurement::Inside => inside::measure(services)?,
        Measurement::Path => path::measure(of, services)?,
        Measurement::Memory => memory::measure(of, services)?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
