//! How userspace mode fares beside HAProxy in TCP mode, nginx's stream module and nftables mode: rates, throughput,
//! latency and memory, from a client through a node to a server, all in namespaces of one machine.
//!
//! Every measurement is made in namespaces and a process of its own, as root; subjects take turns. Run it by `cargo xtask
//! bench userspace`.

mod frontend;
mod load;
mod machine;
mod place;
mod poller;
mod report;
mod row;
mod server;
mod subject;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use benches::isolated;
use clap::{Parser, ValueEnum};
use testbed::isolation;

use place::Place;
use report::Report;
use row::Row;
use subject::Subject;

/// Measure userspace mode beside other proxies.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench userspace", max_term_width = 100)]
struct Cli {
    /// What to measure.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Of whom.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// How often each is measured, in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long each time.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// One round of a second each: shows that it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Where to write `userspace.md`; it is only printed if this is not given.
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// Only the first row of the first subject, in namespaces that are there already.
    #[arg(long, hide = true)]
    measure: bool,
    /// Only be the server.
    #[arg(long, hide = true)]
    serve: bool,
    /// Only be the forwarder, on this address.
    #[arg(long, hide = true)]
    forward: Option<IpAddr>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.forward {
        Some(address) => subject::forward(address),
        None if cli.serve => server::run(),
        None if cli.measure => measure(&cli),
        None => measure_all(&cli),
    };
    benches::end("userspace", result)
}

fn measure_all(cli: &Cli) -> Result<()> {
    let rounds = if cli.quick { 1 } else { cli.rounds };
    let seconds = if cli.quick { 1.0 } else { cli.seconds };
    let subjects = chosen(&cli.subjects);
    let mut report = Report::new(rounds, seconds, machine::limits()?);
    for row in chosen(&cli.rows) {
        for round in 1..=if row == Row::FanOut { 1 } else { rounds } {
            for subject in subjects.iter().copied().filter(|subject| row.concerns(*subject)) {
                eprintln!("{row:?}, round {round} of {rounds}: {} ...", subject.name());
                match isolated::measure_now(&args(row, subject, seconds)?) {
                    Ok(sample) => report.add(subject, sample),
                    Err(error) => report.failed(subject, row, &error),
                }
            }
        }
    }
    report.hand_out(cli.write_to.as_deref())
}

/// Those, or all if none is named.
fn chosen<T: ValueEnum>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}

fn args(row: Row, subject: Subject, seconds: f64) -> Result<Vec<OsString>> {
    let row = row.to_possible_value().context("a row without a name")?;
    let subject = subject.to_possible_value().context("a subject without a name")?;
    let seconds = seconds.to_string();
    let args =
        ["--measure", "--rows", row.get_name(), "--subjects", subject.get_name(), "--seconds", &seconds];
    Ok(args.map(OsString::from).to_vec())
}

fn measure(cli: &Cli) -> Result<()> {
    isolation::settle()?;
    let row = *cli.rows.first().context("no row")?;
    let subject = *cli.subjects.first().context("no subject")?;
    let limits = machine::limits()?;
    let place = Place::new()?;
    let running = subject.start(&place, limits)?;
    let sample = row.measure(&place, &running, limits, Duration::from_secs_f64(cli.seconds))?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
