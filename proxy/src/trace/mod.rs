//! `pointsman trace`: where would a connection go, and why? Evaluated on what the kernel holds, not on what this program
//! believes to have programmed.
//!
//! `query` reads the question, `target` and `surroundings` make packets of it, `walks` has each mode's evaluator walk them
//! through the rules, `policies` adds what policies say, `diagnose` says what is the matter, `report` is what is told, and `table` shows it to people. A
//! running process is asked for the Services that it knows: without it, only names and reasons are missing.

mod connections;
mod diagnose;
mod forwarder;
mod iptables;
mod ipvs;
mod live;
mod model;
mod nftables;
mod policies;
mod query;
mod report;
mod surroundings;
mod table;
mod target;
mod trace_one;
mod walks;

use std::net::IpAddr;

use anyhow::anyhow;
use endpoint_cache::Protocol;

use crate::cli::{self, TraceFlags};
use crate::output;
use crate::policy::tools::{self, Cluster};
use crate::status::Status;
use crate::view::View;
use crate::view::lookup::{self, Named};

pub(crate) use self::live::{Bounds, Filter};
use self::query::{Query, Whither};
use self::report::{Report, Trace};
use self::surroundings::Node;
use self::target::{Target, Which};

/// What a running process tells, or why there is none.
struct Known {
    view: Result<View, String>,
    status: Option<Status>,
    /// What policies say; `None` where none are enforced.
    policies: Option<Result<Cluster, String>>,
}

impl Known {
    fn ask(socket: Option<&str>) -> Self {
        let view = crate::view::client::ask(socket).map_err(|error| format!("{error:#}"));
        let status = crate::status::ask(socket).ok();
        let enforces = status.as_ref().is_some_and(|status| status.policies.is_some());
        let policies =
            enforces.then(|| tools::cluster(socket).map_err(|error| format!("policies: {error:#}")));
        Self { view, status, policies }
    }
}

/// Traces, and prints what becomes of it.
///
/// # Errors
/// When the question makes no sense, the kernel does not tell, or a Service is asked for and nobody knows it.
pub(crate) fn show(flags: &TraceFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let (source, destination) = (flags.source.as_deref(), flags.destination.as_deref());
    if flags.live.live {
        return live::follow(cli::followed(source, destination)?, flags.live.bounds(), flags.output);
    }
    let query = Query::read(source.unwrap_or("node"), destination.unwrap_or_default())?;
    let report = trace(&query, which(flags), &Known::ask(socket))?;
    output::show(&report, flags.output, table::render)
}

fn which(flags: &TraceFlags) -> Which {
    match (flags.node_port, flags.external) {
        (true, _) => Which::NodePort,
        (_, true) => Which::External,
        _ => Which::ClusterIps,
    }
}

fn trace(query: &Query, which: Which, known: &Known) -> anyhow::Result<Report> {
    let node = Node::open()?;
    let traces = match target::of_address(query) {
        Some(target) => vec![trace_one::trace(query, target, known, &node)?],
        None => of_service(query, which, known, &node)?,
    };
    let status = known.status.as_ref();
    Ok(Report {
        node: status.map(|status| status.node.clone()),
        mode: status.map(|status| status.mode.clone()),
        traces,
    })
}

/// A trace for each address of the Service that is asked about.
fn of_service(query: &Query, which: Which, known: &Known, node: &Node) -> anyhow::Result<Vec<Trace>> {
    let Whither::Service { namespace, name, port } = &query.whither else { return Ok(Vec::new()) };
    let view =
        known.view.as_ref().map_err(|why| anyhow!("a Service by name takes a running pointsman: {why}"))?;
    let named = Named { namespace: namespace.as_deref(), name, port: port.as_deref() };
    let service = lookup::service(view, named)?;
    if service.ports.is_empty() || (which == Which::ClusterIps && service.cluster_ips.is_empty()) {
        return Ok(vec![without_address(service, which)]);
    }
    let port = lookup::port(service, named.port, query.protocol.map(Protocol::as_str))?;
    let own: Vec<IpAddr> = [true, false].into_iter().filter_map(|ipv4| node.own_address(ipv4)).collect();
    let targets = target::addresses(service, port, which, &own, query);
    if targets.is_empty() {
        return Ok(vec![without_address(service, which)]);
    }
    targets.into_iter().map(|target: Target| trace_one::trace(query, target, known, node)).collect()
}

fn without_address(service: &crate::view::ServiceView, which: Which) -> Trace {
    let what = match which {
        Which::ClusterIps => "ClusterIP in this family",
        Which::NodePort => "node port",
        Which::External => "external or load-balancer IP",
    };
    let name = format!("{}/{}", service.namespace, service.name);
    let findings = vec![diagnose::without_address(service, what)];
    Trace { service: Some(name), findings, ..Trace::default() }
}
