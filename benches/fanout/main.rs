//! How connections are spread over a Service's endpoints, how many there can be a second and how long each takes to
//! connect, by mode, number of endpoints and number of Services; beside a pod that is connected to directly, and beside
//! a kube-proxy binary if one is given. Measured by `pointsman fanout`, from a pod, of `pointsman respond` in another.
//!
//! Every measurement is made in namespaces and a process of its own, as root; those of ipvs mode, and others to compare
//! them with, in the virtual machine that suites run in. Run it by `cargo xtask bench fanout`.

mod machine;
mod place;
mod plot;
mod report;
mod subject;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::isolated;
use clap::{Parser, ValueEnum};
use testbed::{isolation, vm};

use place::Place;
use report::{Report, Row};
use subject::Subject;

/// Endpoints where the number of Services varies.
const ENDPOINTS: u32 = 10;
/// Services where the number of endpoints varies.
const SERVICES: u32 = 10;

/// Measure how connections are spread over endpoints.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench fanout", max_term_width = 100)]
struct Cli {
    /// Numbers of endpoints, of one of ten Services.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 10, 50, 200])]
    endpoints: Vec<u32>,
    /// Numbers of Services, of which one has ten endpoints that answer.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    services: Vec<u32>,
    /// Who leads connections on; all if none is given.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// Nothing in the virtual machine, and so nothing of ipvs mode.
    #[arg(long)]
    no_machine: bool,
    /// A kube-proxy binary to measure beside.
    #[arg(long, value_name = "PATH")]
    kube_proxy: Option<PathBuf>,
    /// For how long each time.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// A second each, and small clusters: shows that it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Where to write `fanout.md` and its pictures; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only the first subject at the first sizes, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: bool,
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if cli.quick {
        (cli.endpoints, cli.services, cli.seconds) = (vec![1, 10], vec![10, 100], 1);
    }
    let result = match (cli.measure, isolation::is_isolated()) {
        (false, _) => measure_all(&cli),
        (true, false) => hand_over(&cli),
        (true, true) => measure(&cli),
    };
    benches::end("fanout", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let mut report = Report::new(cli.seconds);
    for step in steps(cli, |subject| subject != Subject::Ipvs) {
        eprintln!("{step} ...");
        let args: Vec<OsString> = step.args()?.into_iter().map(OsString::from).collect();
        match isolated::measure_now::<Row>(&args) {
            Ok(row) => report.add(row),
            Err(error) => report.failed(step.subject, &error),
        }
    }
    if !cli.no_machine {
        let small = |step: &Step<'_>| step.services <= machine::MOST_SERVICES;
        let steps: Vec<_> = steps(cli, |subject| !subject.is_kube_proxy()).filter(small).collect();
        machine::measure(&steps, &mut report)?;
    }
    println!("{}", report.markdown());
    match &cli.write_to {
        Some(folder) => report.write(folder),
        None => Ok(()),
    }
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    subject: Subject,
    services: u32,
    endpoints: u32,
    cli: &'a Cli,
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} services, {} endpoints", self.subject.name(), self.services, self.endpoints)
    }
}

impl Step<'_> {
    fn args(&self) -> Result<Vec<String>> {
        let name = self.subject.to_possible_value().context("a subject without a name")?;
        let (services, endpoints, seconds) =
            (self.services.to_string(), self.endpoints.to_string(), self.cli.seconds.to_string());
        let args = ["--measure", "--subjects", name.get_name(), "--services", &services];
        let more = ["--endpoints", &endpoints, "--seconds", &seconds];
        let mut args: Vec<String> = args.into_iter().chain(more).map(str::to_owned).collect();
        if let Some(path) = self.cli.kube_proxy.as_ref().filter(|_| self.subject.is_kube_proxy()) {
            args.extend(["--kube-proxy".to_owned(), path.canonicalize()?.to_string_lossy().into_owned()]);
        }
        Ok(args)
    }
}

/// What these of the subjects are to be measured at.
fn steps(cli: &Cli, of: impl Fn(Subject) -> bool + Copy) -> impl Iterator<Item = Step<'_>> {
    // There is no Service where a direct connection goes.
    let direct_once =
        |step: &Step<'_>| step.subject != Subject::Direct || (step.services, step.endpoints) == (SERVICES, 1);
    let all = sizes(cli).into_iter().flat_map(move |(services, endpoints)| {
        let subjects = subjects(cli).into_iter().filter(move |subject| of(*subject));
        subjects.map(move |subject| Step { subject, services, endpoints, cli })
    });
    all.filter(direct_once)
}

/// Either number varies while the other stays.
fn sizes(cli: &Cli) -> Vec<(u32, u32)> {
    let by_endpoints = cli.endpoints.iter().map(|endpoints| (SERVICES, *endpoints));
    let by_services = cli.services.iter().map(|services| (*services, ENDPOINTS));
    let mut sizes: Vec<_> = by_endpoints.chain(by_services).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn subjects(cli: &Cli) -> Vec<Subject> {
    let named = |subject: &&Subject| cli.subjects.is_empty() || cli.subjects.contains(subject);
    let there = |subject: &&Subject| !subject.is_kube_proxy() || cli.kube_proxy.is_some();
    Subject::value_variants().iter().filter(named).filter(there).copied().collect()
}

/// In the machine: has a measurement made in namespaces of its own, and tells the host what came of it.
fn hand_over(cli: &Cli) -> Result<()> {
    let subject = *cli.subjects.first().context("no subject")?;
    let (services, endpoints) = only_size(cli)?;
    let args = Step { subject, services, endpoints, cli }.args()?;
    let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
    let row: Row = isolated::measure(&args)?;
    println!("{}", vm::measured(&serde_json::to_value(row)?));
    Ok(())
}

fn only_size(cli: &Cli) -> Result<(u32, u32)> {
    let services = cli.services.first().context("no number of Services")?;
    let endpoints = cli.endpoints.first().context("no number of endpoints")?;
    Ok((*services, *endpoints))
}

fn measure(cli: &Cli) -> Result<()> {
    isolation::settle()?;
    let (services, endpoints) = only_size(cli)?;
    let subject = *cli.subjects.first().context("no subject")?;
    let place = Place::new(services, endpoints)?;
    let _running = subject.start(&place, cli.kube_proxy.as_deref())?;
    let target = subject.target();
    place.await_answer(target)?;
    let row = place.measure(target, cli.seconds)?;
    let row = Row { subject: subject.name().to_owned(), services, endpoints, ..row };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}
