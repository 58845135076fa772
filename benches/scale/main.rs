//! How Pointsman fares in clusters of several sizes: starting, changing, and what it uses; beside the raw cost of the
//! same elements, beside `nft -f` with a chain for each service, and beside a kube-proxy binary if one is given.
//!
//! Every measurement is made in namespaces and a process of its own, as root. Run it by `cargo xtask bench scale`.

mod black_box;
mod chains;
mod floor;
mod inside;
mod plot;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::figures::Figures;
use benches::isolated;
use benches::report::Report;
use clap::{Parser, ValueEnum};
use testbed::isolation;

/// Measure starting, changing and resources in clusters of several sizes.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench scale", max_term_width = 100)]
struct Cli {
    /// Numbers of services, with ten endpoints each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 50_000])]
    sizes: Vec<u32>,
    /// A kube-proxy binary to measure beside.
    #[arg(long, value_name = "PATH")]
    kube_proxy: Option<PathBuf>,
    /// Most services to try `nft -f` with a chain for each on: at 10,000 the kernel takes half a minute.
    #[arg(long, default_value_t = 10_000)]
    chains_up_to: u32,
    /// Where to write `scale.md` and `scale.svg`; they are only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only this measurement, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: Option<Measurement>,
}

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Pointsman with an API server.
    Api,
    /// Pointsman with a folder of manifests.
    Folder,
    /// The mode by itself, and the raw cost of its elements.
    Inside,
    /// `nft -f` with a chain for each service.
    Chains,
    /// A kube-proxy binary with an API server.
    KubeProxy,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.measure {
        Some(measurement) => measure(&cli, measurement),
        None => measure_all(&cli),
    };
    benches::end("scale", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let mut report = Report::default();
    for size in &cli.sizes {
        for measurement in Measurement::value_variants() {
            let skipped = match measurement {
                Measurement::KubeProxy => cli.kube_proxy.is_none(),
                Measurement::Chains => *size > cli.chains_up_to,
                _ => false,
            };
            if !skipped {
                eprintln!("{size} services: {measurement:?} ...");
                report.add(*size, measure_isolated(cli, *size, *measurement)?);
            }
        }
    }
    println!("{}", report.table());
    if let Some(folder) = &cli.write_to {
        plot::write(&report, folder)?;
    }
    Ok(())
}

/// Makes a measurement in a process of its own, which prints its figures as JSON.
fn measure_isolated(cli: &Cli, size: u32, measurement: Measurement) -> Result<Figures> {
    let name = measurement.to_possible_value().context("a measurement without a name")?;
    let mut args: Vec<OsString> =
        ["--measure", name.get_name(), "--sizes", &size.to_string()].map(OsString::from).to_vec();
    if let Some(path) = &cli.kube_proxy {
        args.extend(["--kube-proxy".into(), path.canonicalize()?.into()]);
    }
    isolated::measure(&args)
}

fn measure(cli: &Cli, measurement: Measurement) -> Result<()> {
    isolation::settle()?;
    let size = *cli.sizes.first().context("no size")?;
    let figures = match measurement {
        Measurement::Api => black_box::pointsman(size)?,
        Measurement::Folder => black_box::pointsman_with_folder(size)?,
        Measurement::Inside => inside::measure(size)?,
        Measurement::Chains => chains::measure(size)?,
        Measurement::KubeProxy => {
            black_box::kube_proxy(cli.kube_proxy.as_deref().context("no kube-proxy is given")?, size)?
        }
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
