//! `pointsman policy`: NetworkPolicies and nothing else, beside whatever proxy the node has.

use std::sync::Arc;

use anyhow::Context;
use endpoint_cache::Family;
use jiff::Timestamp;

use super::Asked;
use crate::cli::Cli;
use crate::config::Loaded;
use crate::options::Origin;
use crate::source::kubernetes::Outlet;
use crate::status::{InForce, NO_PROXY, Reporter};
use crate::telemetry::{self, Endpoints, Telemetry};
use crate::view::Desk;
use crate::{run, signals};

/// Enforces policies until told to stop.
///
/// # Errors
/// When the work cannot be begun, or not be gone on with.
pub(crate) fn run(cli: &Cli, loaded: &Loaded) -> anyhow::Result<()> {
    let started = Timestamp::now();
    let options = &loaded.options;
    let telemetry = Telemetry::new(options.stale_after);
    // Load balancers ask the proxy.
    telemetry.health.disregard_node();
    telemetry.health.set_families([]);
    let ipv6 = run::kernel_has_ipv6();
    let families = Family::BOTH.into_iter().filter(|family| ipv6 || *family == Family::V4).collect();
    let mut asked = Asked::of(cli, options, families, &telemetry)?;
    let (origin, node) = (asked.origin.clone(), asked.node_name.clone());
    if let Origin::Kubernetes(access) = &origin {
        asked.notices = Some(Outlet::start(access.clone(), &node).context("cannot post events")?);
    }
    run::set_oom_score(options);
    let policies = Arc::clone(&asked.desk);
    let prepared = asked.prepare()?;
    let inbox = prepared.inbox.clone();
    signals::watch(move || inbox.stop()).context("cannot watch for signals")?;
    let (_socket, status) = run::status_socket(cli).unzip();
    let endpoints = Endpoints {
        health: options.healthz,
        metrics: options.metrics,
        status,
        hard_fail: options.bind_hard_fail,
        status_page: false,
        outlet: None,
    };
    let reporter = Reporter {
        mode: NO_PROXY,
        node: node.clone(),
        started,
        telemetry: Arc::clone(&telemetry),
        in_force: Arc::new(InForce::new(loaded.configuration.clone())),
        flags: cli.flags.clone(),
        desk: Desk::closed(),
        policies,
    };
    telemetry::serve(endpoints, reporter)?;
    tracing::info!(node, %origin, "started, for NetworkPolicies alone");
    prepared.run()?;
    tracing::info!("stopped; policies stay in force");
    Ok(())
}
