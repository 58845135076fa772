//! The `pointsman` binary's inside: command line, configuration, sources of objects, and the loop that programs the
//! node.
//!
//! Data flows one way: a `source` hands objects to the sync loop, which owns the cache and the mode and turns
//! what changed into one kernel transaction. This crate decides nothing about Services and knows nothing of nftables;
//! it wires the parts that do. Start reading at [`main`], then `run.rs`.

mod backoff;
pub mod cli;
pub mod config;
pub mod conntrack;
mod diff;
mod disturbances;
mod event_loop;
mod fanout;
mod http;
mod links;
pub mod logging;
mod manual;
pub mod mode;
mod network;
pub mod options;
mod output;
mod policy;
mod retirement;
mod run;
mod service_health;
mod signals;
mod source;
mod status;
mod sync_loop;
mod telemetry;
mod trace;
mod view;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use cli::{Cli, Command, Version};
use config::Loaded;
use options::Options;

const REFUSED: u8 = 1;
const BAD_USAGE: u8 = 2;

/// A command line whose every flag is readable, and that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} (see pointsman --help)")]
pub struct BadUsage(String);

/// Runs the program with this command line, the program's name first; returns its exit status.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(BAD_USAGE, &cli::one_line(&error)),
        Err(help) => help.exit(),
    };
    if let Some(Command::Diff(flags)) = &cli.command {
        let flags = (**flags).clone();
        return diff::main(cli, flags);
    }
    if let Some(Command::Policy(command)) = &cli.command {
        if let Some(tool) = &command.tool {
            return policy::tools::main(tool, cli.socket.as_deref());
        }
        let command = (**command).clone();
        return done(policies_alone(&command.into_alone(cli)));
    }
    if let Some(Command::Ipam(tool)) = &cli.command {
        return network::doctor(tool);
    }
    done(dispatch(cli))
}

/// The exit status, once it is told what went wrong.
fn done(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<BadUsage>() => fail(BAD_USAGE, &error.to_string()),
        // Joins the chain of causes with ": ".
        Err(error) => fail(REFUSED, &format!("{error:#}")),
    }
}

fn fail(status: u8, message: &str) -> ExitCode {
    // A closed stderr is no reason to panic: the exit status still tells.
    drop(writeln!(io::stderr(), "pointsman: {message}"));
    ExitCode::from(status)
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Some(Command::Status(flags)) => return status::show(flags, cli.socket.as_deref()),
        Some(Command::Get(flags)) => return view::get(flags, cli.socket.as_deref()),
        Some(Command::Explain(flags)) => return view::explain(flags, cli.socket.as_deref()),
        Some(Command::Trace(flags)) => return trace::show(flags, cli.socket.as_deref()),
        Some(Command::Fanout(flags)) => return fanout::run(flags, cli.socket.as_deref()),
        Some(Command::Respond(flags)) => return fanout::responder::serve(flags),
        Some(Command::CheckConfig { file }) => return config::check(file),
        Some(Command::Completion { shell }) => return manual::print_completion(*shell),
        Some(Command::Manual) => return manual::print_page(),
        // They are other command lines.
        Some(Command::Diff(_) | Command::Policy(_) | Command::Ipam(_)) | None => {}
    }
    if cli.version != Version::No {
        return manual::print_version(cli.version);
    }
    let loaded = config::load(&cli)?;
    if !cli.write_config_to.is_empty() {
        return write_config(&loaded, &cli);
    }
    let log = logging::start(&loaded.options.log);
    tell_what_does_not_count(&cli, &loaded);
    if cli.cleanup {
        return cleanup(&cli, &loaded.options);
    }
    if cli.init_only {
        return init(&cli, &loaded.options);
    }
    run::run(cli, loaded, log)
}

/// Enforces policies, and programs nothing else.
fn policies_alone(cli: &Cli) -> anyhow::Result<()> {
    let loaded = config::load(cli)?;
    // There is no file to follow that could say how much to log.
    drop(logging::start(&loaded.options.log));
    policy::run_alone(cli, &loaded)
}

fn write_config(loaded: &Loaded, cli: &Cli) -> anyhow::Result<()> {
    for doubt in &loaded.doubts {
        // A closed stderr is no reason not to write.
        drop(writeln!(io::stderr(), "pointsman: --config {}: {doubt}", cli.config));
    }
    let (configuration, file) = (&loaded.configuration, &cli.write_config_to);
    let text = serde_saphyr::to_string(configuration).context("cannot write the configuration as YAML")?;
    std::fs::write(file, text).with_context(|| format!("cannot write --write-config-to {file}"))
}

/// What was probably meant otherwise.
fn tell_doubts(cli: &Cli, loaded: &Loaded) {
    for doubt in &loaded.doubts {
        tracing::warn!("--config {}: {doubt}", cli.config);
    }
}

/// What was said in good faith and makes no difference.
fn tell_what_does_not_count(cli: &Cli, loaded: &Loaded) {
    tell_doubts(cli, loaded);
    let unheeded = loaded.unheeded();
    if !unheeded.is_empty() {
        tracing::info!("accepted, and without a meaning to pointsman: {}", unheeded.join(", "));
    }
    let overruled = cli.overruled();
    if !cli.config.is_empty() && !overruled.is_empty() {
        tracing::warn!("--config is given, so these flags do not count: {}", overruled.join(", "));
    }
}

fn cleanup(cli: &Cli, options: &Options) -> anyhow::Result<()> {
    let removed = mode::cleanup(&options.ipvs.exclude_cidrs, &cli.userspace.userspace_capture_addresses)?;
    let policies = policy::cleanup().context("cannot remove the rules of NetworkPolicies")?;
    let network = network::cleanup(&cli.network).context("cannot remove the pod network")?;
    tracing::info!(removed, policies, network, "cleaned up");
    Ok(())
}

/// Sets what takes more privileges than the work itself.
fn init(cli: &Cli, options: &Options) -> anyhow::Result<()> {
    // Its parameters are there when it is. Why they are not is told with them.
    let _ = kernel::conntrack::load();
    let outcome = conntrack::apply(&options.conntrack);
    mode::initialise(options).context("cannot set kernel parameters for this mode")?;
    network::initialise(&cli.network).context("cannot set kernel parameters for the pod network")?;
    if let Some(refusal) = outcome.refused.first() {
        anyhow::bail!("{refusal}");
    }
    tracing::info!(mode = %options.mode, config = cli.config, "initialised");
    Ok(())
}
