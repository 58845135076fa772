//! The proxy at work: source, cache, mode and telemetry, put together and set going.

mod follow;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use endpoint_cache::{Cache, Family, Update};
use jiff::Timestamp;
use modes::{DetectLocal, Settings};

use crate::cli::{Cli, Switch};
use crate::config::{self, Loaded};
use crate::logging;
use crate::mode::{self, Asked, Chosen};
use crate::options::{Options, Origin};
use crate::service_health::ServiceHealth;
use crate::source::kubernetes::{Kubernetes, News, Outlet};
use crate::source::manifests::Manifests;
use crate::source::{self, Source};
use crate::status::{self, InForce, Reporter};
use crate::sync_loop::{NodeWait, SyncLoop};
use crate::telemetry::{self, Socket, Telemetry};
use crate::view::Desk;
use crate::{conntrack, event_loop, network, policy, retirement, signals};
use follow::Follower;

/// Follows Services until told to stop.
///
/// # Errors
/// When the work cannot be begun, or not be gone on with.
pub(crate) fn run(cli: Cli, loaded: Loaded, log: logging::Handle) -> anyhow::Result<()> {
    let started = Timestamp::now();
    let options = &loaded.options;
    let mut settings = options.settings.clone();
    settings.ipv6 = kernel_has_ipv6();
    settings.policies = cli.network_policy == Switch::On;
    let node_name = options.node_name()?;
    let telemetry = Telemetry::new(options.stale_after);
    let origin = options.origin(&cli);
    let source: Box<dyn Source<Update>> = match &origin {
        Origin::Manifests(path) => Box::new(Manifests::open(path)?),
        Origin::Kubernetes(access) => {
            let (access, telemetry) = (access.clone(), Arc::clone(&telemetry));
            Box::new(Kubernetes::open(access, &node_name, cli.watch_silence, telemetry)?)
        }
    };
    telemetry.health.set_families(Family::BOTH.into_iter().filter(|family| settings.enables(*family)));
    let asked = Asked {
        name: options.mode,
        settings: settings.clone(),
        iptables_backend: cli.iptables_backend.0,
        ipvs: options.ipvs.clone(),
        userspace: cli.userspace.clone(),
    };
    let Chosen { mode, retire_others, programs_kernel, forwarder } = mode::choose(asked)?;
    if programs_kernel {
        conntrack::apply(&options.conntrack);
        set_oom_score(options);
    }
    if let Some(forwarder) = forwarder {
        telemetry.traffic.is_carried_by(forwarder);
    }
    let events = match &origin {
        Origin::Kubernetes(access) => {
            Some(Outlet::start(access.clone(), &node_name).context("cannot post events")?)
        }
        Origin::Manifests(_) => None,
    };
    // Without rules, the process serves its user alone, on a machine that may be no Node.
    if !programs_kernel {
        telemetry.health.disregard_node();
    }
    let node_events = events.clone().filter(|_| programs_kernel);
    let node_wait = await_node(&origin, &settings, &node_name).filter(|_| programs_kernel);
    let everywhere = mode.node_ports_everywhere();
    let service_health =
        ServiceHealth::start(Arc::clone(&telemetry), settings.clone(), everywhere, events.clone())
            .context("cannot answer load balancers")?;
    warn_of_gaps(&cli, options, programs_kernel);

    let (inbox, inputs) = event_loop::channel();
    let stopped = inbox.clone();
    signals::watch(move || stopped.stop()).context("cannot watch for signals")?;
    let (_socket, status) = status_socket(&cli).unzip();
    let in_force = Arc::new(InForce::new(loaded.configuration.clone()));
    let policy_desk = Arc::new(policy::Desk::default());
    let reporter = Reporter {
        mode: mode.name(),
        node: node_name.clone(),
        started,
        telemetry: Arc::clone(&telemetry),
        in_force: Arc::clone(&in_force),
        flags: cli.flags.clone(),
        desk: Desk::new(inbox.clone()),
        policies: Arc::clone(&policy_desk),
    };
    let endpoints = telemetry::Endpoints {
        health: options.healthz,
        metrics: options.metrics,
        status,
        hard_fail: options.bind_hard_fail,
        status_page: cli.status_page,
        outlet: node_events.clone(),
    };
    telemetry::serve(endpoints, reporter)?;
    if let Some(events) = node_events {
        events.post(News::starting());
    }
    let families: Vec<_> = Family::BOTH.into_iter().filter(|family| settings.enables(*family)).collect();
    let admits = (cli.network_policy == Switch::On).then(|| Arc::clone(&policy_desk));
    let policies = match cli.network_policy {
        Switch::On => {
            let mut asked = policy::Asked::of(&cli, options, families.clone(), &telemetry)?;
            asked.notices.clone_from(&events);
            asked.desk = policy_desk;
            let inbox = inbox.clone();
            Some(policy::start(asked, move |error| inbox.fail(error))?)
        }
        Switch::Off => None,
    };
    let network = match network::Asked::of(&cli, &loaded, families, &telemetry)? {
        Some(asked) => {
            let inbox = inbox.clone();
            Some(network::start(asked.with_policies(admits), move |error| inbox.fail(error))?)
        }
        None => None,
    };
    source::start("source", source, inbox.clone())
        .with_context(|| format!("cannot start following {origin}"))?;
    tracing::info!(mode = mode.name(), node = node_name, %origin, "started");
    // What a developer runs is behind Services of a folder of his own; a cluster must not lead to this machine.
    let own_folder = !programs_kernel && matches!(origin, Origin::Manifests(_));
    let cache = Cache::new(&node_name).with_loopback_endpoints(own_folder);
    let sync_loop = SyncLoop::new(cache, mode, Arc::clone(&telemetry))
        .with_notices(events)
        .with_service_health(Some(service_health))
        .awaiting_node(node_wait)
        .with_min_sync_period(options.min_sync_period);
    if !cli.config.is_empty() {
        let file = cli.config.clone();
        let inbox = inbox.clone();
        let mut follower = Follower { cli, loaded, in_force, log, telemetry, inbox, programs_kernel };
        config::watch(Path::new(&file), move || follower.follow())?;
    }
    let retires_policies = policies.is_none() && programs_kernel;
    let after_first_sync = move || {
        retirement::retire(retire_others);
        if retires_policies {
            policy::retire();
        }
    };
    let outcome = sync_loop.with_work_after_first_sync(after_first_sync).run(inbox, &inputs);
    // Nobody may wait for a place in it any more.
    drop(inputs);
    if let Some(network) = network {
        network.stop();
    }
    if let Some(policies) = policies {
        policies.stop();
    }
    outcome?;
    match programs_kernel {
        true => tracing::info!("stopped; the rules stay in force"),
        false => tracing::info!("stopped; nothing stays behind"),
    }
    Ok(())
}

/// What is to be known of the Node before the first sync. Manifests need not have one.
pub(crate) fn await_node(origin: &Origin, settings: &Settings, node_name: &str) -> Option<NodeWait> {
    matches!(origin, Origin::Kubernetes(_)).then(|| NodeWait {
        node_name: node_name.to_owned(),
        addresses: settings.node_address.is_none(),
        pod_cidrs: settings.detect_local == DetectLocal::NodeCidr,
    })
}

/// Where `pointsman status` is to be answered; the work goes on without it.
pub(crate) fn status_socket(cli: &Cli) -> Option<(Socket, UnixListener)> {
    let path = status::place::to_answer(cli.socket.as_deref())?;
    Socket::bind(&path)
        .inspect_err(|error| {
            tracing::warn!("pointsman status is not answered by this process: {error:#} (--socket)");
        })
        .ok()
}

/// What was asked for in good faith and will not come true.
fn warn_of_gaps(cli: &Cli, options: &Options, programs_kernel: bool) {
    if programs_kernel
        && matches!(&options.settings.detect_local, DetectLocal::ClusterCidr(cidrs) if cidrs.is_empty())
    {
        tracing::warn!(
            "no --cluster-cidr: traffic to ClusterIPs from outside the cluster is not masqueraded"
        );
    }
    if cli.manifests.is_some() && options.names_a_server(cli) {
        tracing::warn!("--kubeconfig and --master are not used: Services come from --manifests");
    }
    match options.metrics.filter(|_| cli.status_page) {
        Some(at) if !at.ip().is_loopback() => {
            tracing::warn!(
                "the status page is for whoever reaches {at} (--status-page, --metrics-bind-address)"
            );
        }
        None if cli.status_page => {
            tracing::warn!("there is no status page: it is served with the metrics (--metrics-bind-address)");
        }
        _ => {}
    }
}

/// Who is killed last when memory is short.
pub(crate) fn set_oom_score(options: &Options) {
    match kernel::process::set_oom_score_adj(options.oom_score_adj) {
        Ok(_) => {}
        // Nobody misses it until memory is short.
        Err(error) => tracing::debug!("--oom-score-adj stays as it is: {error}"),
    }
}

/// A kernel may be built or booted without IPv6; IPv4 is served all the same.
pub(crate) fn kernel_has_ipv6() -> bool {
    let has = kernel::sysctl::get("net.ipv6.conf.all.disable_ipv6").is_ok();
    if !has {
        tracing::info!("the kernel has no IPv6: IPv4 only");
    }
    has
}
