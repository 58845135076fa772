//! From what the cache knows to what is shown. Pure.

use std::net::SocketAddr;

use endpoint_cache::object::Kind;
use endpoint_cache::{
    Cache, EndpointPortrait, PortPortrait, Portrait, Problem, Protocol, SpecPortrait, TrafficPolicy,
};

use super::{EndpointView, PortView, ServiceView, View};

/// Everything that the cache knows. What the process knows besides is left to be filled in.
pub(crate) fn view(cache: &Cache) -> View {
    View {
        zone: cache.node().zone.as_deref().map(str::to_owned),
        services: cache.portraits().into_iter().map(service).collect(),
        ..View::default()
    }
}

fn service(portrait: Portrait) -> ServiceView {
    let mut problems: Vec<String> = portrait.problems.iter().map(sentence).collect();
    let (namespace, name) = (portrait.name.namespace.to_string(), portrait.name.name.to_string());
    match portrait.spec {
        Ok(spec) => ServiceView { namespace, name, problems, ..served(spec) },
        Err(why) => {
            problems.insert(0, format!("not served: {why}"));
            let kind = match why {
                endpoint_cache::Unserved::ExternalName => "ExternalName",
                endpoint_cache::Unserved::Headless | endpoint_cache::Unserved::OtherProxy => "",
            };
            ServiceView { namespace, name, kind: kind.to_owned(), problems, ..ServiceView::default() }
        }
    }
}

fn served(spec: SpecPortrait) -> ServiceView {
    ServiceView {
        kind: spec.service_type.to_string(),
        cluster_ips: spec.cluster_ips,
        external_ips: spec.external_ips,
        load_balancer_ips: spec.load_balancer_ips,
        source_ranges: spec.source_ranges,
        internal_traffic_policy: policy(spec.internal_policy),
        external_traffic_policy: policy(spec.external_policy),
        affinity_seconds: spec.affinity_seconds,
        health_check_node_port: spec.health_check_node_port,
        traffic_distribution: spec.distribution.map(|distribution| distribution.to_string()),
        publish_not_ready_addresses: spec.publishes_not_ready,
        proxy_protocol: spec.proxy_protocol,
        ports: spec.ports.into_iter().map(port).collect(),
        ..ServiceView::default()
    }
}

fn port(portrait: PortPortrait) -> PortView {
    PortView {
        name: portrait.name.to_string(),
        protocol: protocol(portrait.protocol),
        port: portrait.port,
        node_port: portrait.node_port,
        endpoints: portrait.endpoints.into_iter().map(endpoint).collect(),
    }
}

fn endpoint(portrait: EndpointPortrait) -> EndpointView {
    EndpointView {
        address: SocketAddr::new(portrait.address, portrait.port),
        node: portrait.node.as_deref().map(str::to_owned),
        local: portrait.local,
        ready: portrait.ready,
        serving: portrait.serving,
        terminating: portrait.terminating,
        slice: portrait.slice.to_string(),
        used_by_cluster: portrait.used_by_cluster,
        used_by_local: portrait.used_by_local,
        why_not: portrait.why_not.map(|why_not| why_not.to_string()),
    }
}

/// A problem, with its object if that is not the Service itself.
fn sentence(problem: &Problem) -> String {
    let object = match problem.object.kind {
        Kind::Service => String::new(),
        _ => format!("{} ", problem.object),
    };
    let field = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
    format!("{object}{field}{}", problem.reason)
}

/// As Kubernetes writes it.
pub(crate) fn protocol(protocol: Protocol) -> String {
    protocol.as_str().to_uppercase()
}

fn policy(policy: TrafficPolicy) -> String {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
    .to_owned()
}
