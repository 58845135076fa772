//! The `pointsman` binary's inside: command line, sources of objects, and the loop that programs the node.
//!
//! Data flows one way: a [`source`] hands objects to the sync loop, which owns the cache and the mode and turns
//! what changed into one kernel transaction. This crate decides nothing about Services and knows nothing of nftables;
//! it wires the parts that do. Start reading at [`main`].

mod backoff;
pub mod cli;
pub mod conntrack;
mod disturbances;
pub mod logging;
pub mod mode;
pub mod options;
mod signals;
pub mod source;
mod status;
mod sync_loop;
mod telemetry;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use endpoint_cache::Cache;
use jiff::Timestamp;

use cli::{Cli, Command, DetectLocalMode};
use conntrack::Conntrack;
use mode::{Asked, Chosen, ModeName};
use options::{Invalid, Origin};
use source::Source;
use source::kubernetes::{Kubernetes, Outlet};
use source::manifests::Manifests;
use status::Reporter;
use sync_loop::{Outcome, SyncLoop};
use telemetry::{Socket, Telemetry};

const REFUSED: u8 = 1;
const BAD_USAGE: u8 = 2;

/// Runs the program with this command line, the program's name first; returns its exit status.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(BAD_USAGE, &cli::one_line(&error)),
        Err(help) => help.exit(),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Invalid>() => fail(BAD_USAGE, &format!("{error} (see pointsman --help)")),
        // Joins the chain of causes with ": ".
        Err(error) => fail(REFUSED, &format!("{error:#}")),
    }
}

fn fail(status: u8, message: &str) -> ExitCode {
    // A closed stderr is no reason to panic: the exit status still tells.
    drop(writeln!(io::stderr(), "pointsman: {message}"));
    ExitCode::from(status)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(Command::Status(flags)) = &cli.command {
        return status::show(flags, cli.socket.as_deref());
    }
    logging::start(cli.verbosity);
    if cli.cleanup {
        return cleanup(cli);
    }
    let started = Timestamp::now();
    let mut settings = options::settings(cli)?;
    settings.ipv6 = kernel_has_ipv6();
    let node_name = options::node_name(cli)?;
    let telemetry = Telemetry::new(2 * cli.iptables_sync_period);
    let origin = options::origin(cli);
    let source: Box<dyn Source> = match &origin {
        Origin::Manifests(path) => Box::new(Manifests::open(path)?),
        Origin::Kubernetes(access) => {
            let (access, telemetry) = (access.clone(), Arc::clone(&telemetry));
            Box::new(Kubernetes::open(access, &node_name, cli.watch_silence, telemetry)?)
        }
    };
    let asked = Asked {
        name: cli.proxy_mode,
        settings,
        iptables_backend: cli.iptables_backend.0,
        ipvs: cli.ipvs.options(),
        userspace: cli.userspace.clone(),
    };
    let Chosen { mode, retire_others, programs_kernel, forwarder } = mode::choose(asked)?;
    // What needs no privileges has nothing to do with connection tracking.
    if programs_kernel {
        conntrack::apply(&Conntrack { tcp_be_liberal: cli.conntrack_tcp_be_liberal, ..Conntrack::default() });
    }
    if let Some(forwarder) = forwarder {
        telemetry.traffic.is_carried_by(forwarder);
    }

    let notices = match &origin {
        // No other mode has any.
        Origin::Kubernetes(access) if cli.proxy_mode == ModeName::Userspace => {
            Some(Outlet::start(access.clone(), &node_name).context("cannot post events")?)
        }
        _ => None,
    };
    warn_of_gaps(cli, programs_kernel);

    let (inbox, inputs) = sync_loop::channel();
    signals::watch(inbox.clone()).context("cannot watch for signals")?;
    let (_socket, status) = status_socket(cli).unzip();
    let (health, metrics) = (cli.healthz_bind_address.0, cli.metrics_bind_address.0);
    let reporter =
        Reporter { mode: mode.name(), node: node_name.clone(), started, telemetry: Arc::clone(&telemetry) };
    telemetry::serve(telemetry::Endpoints { health, metrics, status }, reporter)?;
    source::start(source, inbox.clone()).with_context(|| format!("cannot start following {origin}"))?;
    tracing::info!(mode = mode.name(), node = node_name, %origin, "started");
    // What a developer runs is behind Services of a folder of his own; a cluster must not lead to this machine.
    let own_folder = !programs_kernel && matches!(origin, Origin::Manifests(_));
    let cache = Cache::new(&node_name).with_loopback_endpoints(own_folder);
    let sync_loop = SyncLoop::new(cache, mode, telemetry).with_notices(notices);
    match sync_loop.after_first_sync(move || retire(retire_others)).run(inbox, &inputs) {
        Outcome::Stopped => {
            match programs_kernel {
                true => tracing::info!("stopped; the rules stay in force"),
                false => tracing::info!("stopped; nothing stays behind"),
            }
            Ok(())
        }
        Outcome::SourceFailed(error) => Err(error),
    }
}

/// Where `pointsman status` is to be answered; the work goes on without it.
fn status_socket(cli: &Cli) -> Option<(Socket, UnixListener)> {
    let path = status::place::to_answer(cli.socket.as_deref())?;
    Socket::bind(&path)
        .inspect_err(|error| {
            tracing::warn!("pointsman status is not answered by this process: {error:#} (--socket)");
        })
        .ok()
}

/// What was asked for in good faith and will not come true.
fn warn_of_gaps(cli: &Cli, programs_kernel: bool) {
    if programs_kernel
        && cli.detect_local_mode == DetectLocalMode::ClusterCidr
        && cli.cluster_cidr.0.is_empty()
    {
        tracing::warn!(
            "no --cluster-cidr: traffic to ClusterIPs from outside the cluster is not masqueraded"
        );
    }
    let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    if cli.manifests.is_some() && (given(&cli.kubeconfig) || given(&cli.master)) {
        tracing::warn!("--kubeconfig and --master are not used: Services come from --manifests");
    }
}

fn cleanup(cli: &Cli) -> anyhow::Result<()> {
    let removed = mode::cleanup(&cli.ipvs.ipvs_exclude_cidrs, &cli.userspace.userspace_capture_addresses)?;
    tracing::info!(removed, "cleaned up");
    Ok(())
}

/// Takes away what other modes left.
fn retire(retire_others: mode::RetireOthers) {
    match retire_others() {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed what another mode or kube-proxy left"),
        Err(error) => tracing::warn!("what another mode or kube-proxy left is still there: {error:#}"),
    }
}

/// A kernel may be built or booted without IPv6; IPv4 is served all the same.
fn kernel_has_ipv6() -> bool {
    let has = kernel::sysctl::get("net.ipv6.conf.all.disable_ipv6").is_ok();
    if !has {
        tracing::info!("the kernel has no IPv6: IPv4 only");
    }
    has
}
