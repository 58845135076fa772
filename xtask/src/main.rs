//! The project's chores, each under one name: `cargo xtask --help` lists them.
//!
//! A chore says what it runs before it runs it, stops at the first failure, and needs nothing but what `setup` checks.

mod demo;
mod setup;
mod shell;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use shell::cargo;

/// Suites that the virtual machine runs and no host.
const ONLY_IN_THE_MACHINE: [&str; 3] = ["ipvs", "schedulers", "sctp"];

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Show Pointsman at work: a node, three pods and a client out of network namespaces, and real connections.
    Demo(DemoFlags),
    /// Check that the machine has what the tests need; as root, install what is missing.
    Setup,
    /// Build the binary and run every test, and two minutes of `bench soak` beside them.
    Test(Passed),
    /// Check formatting, warnings, dependencies' licences and documentation, as a commit must have them.
    Lint,
    /// Check dependencies for known holes. Downloads the advisory database.
    Audit,
    /// Run the benchmarks; `scale` or `iptables` alone runs those of whole clusters, as root, `fanout` how modes spread
    /// connections over endpoints, `userspace` that of userspace mode beside other proxies, `policy` that of network policies, `cni` that of the pod network, and `ipvs` that of IPVS mode, in the virtual machine: `cargo xtask bench scale --help`.
    /// `soak` measures nothing: it lets Services come and go under traffic, and fails if anything fails or leaks.
    Bench(Passed),
}

/// Which demonstration.
#[derive(Args)]
struct DemoFlags {
    /// Show instead what needs no privileges: Services at local ports of this machine, forwarded by an ordinary user's
    /// process.
    #[arg(long, conflicts_with = "cluster")]
    unprivileged: bool,
    #[command(flatten)]
    cluster: demo::cluster::ClusterFlags,
}

/// Arguments that are handed on.
#[derive(Args)]
struct Passed {
    /// Handed on to cargo: `cargo xtask test -p modes -- hairpin`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> Result<()> {
    match chore {
        Chore::Demo(DemoFlags { unprivileged: true, .. }) => {
            cargo(&["build", "--package", "pointsman"], &[])?;
            demo::unprivileged::run()
        }
        Chore::Demo(DemoFlags { cluster, .. }) if cluster.wanted() => {
            built(&["pointsman", "cni"])?;
            demo::cluster::run(cluster)
        }
        Chore::Demo(_) => {
            built(&["pointsman"])?;
            demo::run()
        }
        Chore::Setup => setup::packages(),
        Chore::Test(Passed { args }) => test(args),
        Chore::Lint => lint(),
        Chore::Audit => {
            setup::cargo_deny()?;
            cargo(&["deny", "check", "advisories"], &[])
        }
        Chore::Bench(Passed { args }) => bench(args),
    }
}

/// Demonstrations run real binaries, which have to be built first.
fn built(packages: &[&str]) -> Result<()> {
    if testbed::isolation::is_isolated() {
        return Ok(());
    }
    setup::packages()?;
    let packages: Vec<&str> = packages.iter().flat_map(|name| ["--package", *name]).collect();
    cargo(&[&["build", "--bins"], &packages[..]].concat(), &[])
}

/// Tests run the real binary, which has to be built first, in the profile that they run in.
fn test(args: &[String]) -> Result<()> {
    setup::packages()?;
    if args.is_empty() {
        return test_everything();
    }
    let profile: Vec<String> = args.iter().filter(|arg| *arg == "--release").cloned().collect();
    cargo(&["build", "--bins", "--package", "pointsman", "--package", "cni"], &profile)?;
    let named = args.iter().any(|arg| arg == "-p" || arg.starts_with("--package"));
    cargo(if named { &["test"] } else { &["test", "--workspace"] }, args)
}

/// Binaries are built together with tests: by themselves, their dependencies have other features, and most of them would be
/// built twice. The soak mostly waits, so it runs beside the tests; not while they are built, since that replaces what it
/// runs.
fn test_everything() -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--tests"], &[])?;
    let soak = shell::beside("soak", &["--minutes", "2", "--busy"])?;
    // One run tells of everything that fails.
    let tested = cargo(&["test", "--workspace", "--no-fail-fast"], &[]);
    let soaked = soak.finish();
    tested.and(soaked)
}

fn bench(args: &[String]) -> Result<()> {
    let of_clusters = |first: &str| {
        ["scale", "fanout", "iptables", "ipvs", "userspace", "policy", "cni", "soak"].contains(&first)
    };
    let Some((program, args)) = args.split_first().filter(|(first, _)| of_clusters(first)) else {
        return cargo(&["bench", "--package", "benches"], args);
    };
    setup::packages()?;
    if program == "userspace" {
        setup::proxies()?;
    }
    // It measures the real binary, which has to be built first.
    let binaries = ["pointsman", "cni", "benches"].map(|name| ["--package", name]).concat();
    cargo(&[&["build", "--release", "--bins"], &binaries[..]].concat(), &[])?;
    cargo(&["run", "--release", "--quiet", "--package", "benches", "--bin", program, "--"], args)
}

fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    // Targets with `test = false` are not among all targets.
    let only_in_the_machine: Vec<&str> =
        ONLY_IN_THE_MACHINE.iter().flat_map(|name| ["--test", name]).collect();
    cargo(&[&["clippy", "--workspace"], &only_in_the_machine[..], &["--", "-D", "warnings"]].concat(), &[])?;
    setup::cargo_deny()?;
    cargo(&["deny", "check", "bans", "licenses", "sources"], &[])?;
    shell::with_env("RUSTDOCFLAGS", "-Dwarnings").cargo(&["doc", "--no-deps", "--workspace"], &[])
}
