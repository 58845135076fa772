//! How the iptables mode fares in clusters of several sizes, on either back end: loading, changing, restarting, and what
//! it uses; beside the same scripts given to `iptables-restore` by a bare pipe, and beside a kube-proxy binary if one is
//! given.
//!
//! Every measurement is made in namespaces and a process of its own, as root. Run it by `cargo xtask bench iptables`.

mod black_box;
mod floor;
mod inside;
mod recording;
mod report;
mod workload;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::isolated;
use benches::report::{Report, thousands};
use clap::{Parser, ValueEnum};
use modes::iptables::Backend;
use testbed::isolation;

/// Measure the iptables mode in clusters of several sizes.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench iptables", max_term_width = 100)]
struct Cli {
    /// Numbers of services, with ten endpoints each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000, 10_000])]
    sizes: Vec<u32>,
    /// The back ends of iptables.
    #[arg(long, value_delimiter = ',', default_values_t = Backend::BOTH)]
    backends: Vec<Backend>,
    /// A kube-proxy binary to measure beside.
    #[arg(long, value_name = "PATH")]
    kube_proxy: Option<PathBuf>,
    /// Most services to load into iptables-nft in one run: it takes quadratic time.
    #[arg(long, value_name = "SERVICES", default_value_t = 1_000)]
    one_run_up_to: u32,
    /// Most services to load into iptables-nft at all.
    #[arg(long, value_name = "SERVICES", default_value_t = 10_000)]
    nft_up_to: u32,
    /// Where to write `iptables.md`; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only this measurement, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: Option<Measurement>,
}

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The mode by itself, and its scripts alone.
    Inside,
    /// Its scripts as one.
    OneRun,
    /// Pointsman with an API server.
    Api,
    /// A kube-proxy binary with an API server.
    KubeProxy,
    /// Nothing: the pass that is recorded, in the middle of another measurement.
    Record,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.measure {
        Some(measurement) => measure(&cli, measurement),
        None => measure_all(&cli),
    };
    benches::end("iptables", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let (mut report, mut left_out) = (Report::with_aims(report::AIMS), Vec::new());
    for backend in &cli.backends {
        for size in &cli.sizes {
            for measurement in Measurement::value_variants() {
                if !is_asked_for(cli, *measurement, *backend) {
                    continue;
                }
                match reason_against(cli, *measurement, *backend, *size) {
                    Some(reason) => left_out.push(reason),
                    None => {
                        eprintln!("iptables-{backend}, {size} services: {measurement:?} ...");
                        report.add(*size, isolated::measure(&args(cli, *measurement, *backend, *size)?)?);
                    }
                }
            }
        }
    }
    left_out.dedup();
    report::hand_out(&report, &left_out, cli.write_to.as_deref())
}

fn is_asked_for(cli: &Cli, measurement: Measurement, backend: Backend) -> bool {
    match measurement {
        Measurement::Inside | Measurement::Api => true,
        Measurement::KubeProxy => cli.kube_proxy.is_some(),
        // Elsewhere it is one run anyway.
        Measurement::OneRun => backend == Backend::Nft,
        Measurement::Record => false,
    }
}

/// Why something is left out, if it is.
fn reason_against(cli: &Cli, measurement: Measurement, backend: Backend, size: u32) -> Option<String> {
    let services = thousands(f64::from(size));
    if backend == Backend::Nft && size > cli.nft_up_to {
        return Some(format!(
            "iptables-nft with {services} services is left out: a full load takes too long."
        ));
    }
    (measurement == Measurement::OneRun && size > cli.one_run_up_to).then(|| {
        format!(
            "iptables-nft is not given the text of {services} services in one run: it takes quadratic time, and \
             minutes at this size."
        )
    })
}

fn args(cli: &Cli, measurement: Measurement, backend: Backend, size: u32) -> Result<Vec<OsString>> {
    let name = measurement.to_possible_value().context("a measurement without a name")?;
    let (size, backend) = (size.to_string(), backend.to_string());
    let args = ["--measure", name.get_name(), "--sizes", &size, "--backends", &backend];
    let mut args = args.map(OsString::from).to_vec();
    if let Some(path) = &cli.kube_proxy {
        args.extend(["--kube-proxy".into(), path.canonicalize()?.into()]);
    }
    Ok(args)
}

fn measure(cli: &Cli, measurement: Measurement) -> Result<()> {
    let size = *cli.sizes.first().context("no size")?;
    let backend = *cli.backends.first().context("no back end")?;
    if measurement == Measurement::Record {
        return recording::run_recorded(size, backend);
    }
    isolation::settle()?;
    let figures = match measurement {
        Measurement::Inside | Measurement::Record => inside::measure(size, backend)?,
        Measurement::OneRun => inside::measure_one_run(size, backend)?,
        Measurement::Api => black_box::pointsman(size, backend)?,
        Measurement::KubeProxy => {
            let binary = cli.kube_proxy.as_deref().context("no kube-proxy is given")?;
            black_box::kube_proxy(binary, size, backend)?
        }
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
