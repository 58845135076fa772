//! One Service with its endpoints: who is used, who is not and why, and who has how many connections. Pure.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::assess::is_used;
use super::gather::Snapshot;
use crate::view::{EndpointView, PortView, ServiceView};

/// Endpoints of a port that are told at most.
const MOST_ENDPOINTS: usize = 250;

/// Which Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Which {
    namespace: String,
    name: String,
}

impl Which {
    /// Reads the query of an address.
    pub(super) fn read(text: &str) -> Self {
        let mut which = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "namespace" => which.namespace = value.into_owned(),
                "name" => which.name = value.into_owned(),
                _ => {}
            }
        }
        which
    }
}

/// A Service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail<'a> {
    taken: Option<Timestamp>,
    internal_traffic_policy: &'a str,
    external_traffic_policy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity_seconds: Option<u32>,
    ports: Vec<Port<'a>>,
}

/// A port of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Port<'a> {
    name: &'a str,
    protocol: &'a str,
    port: u16,
    /// All connections to it.
    connections: u64,
    /// How many endpoints are used.
    used: usize,
    /// Those that are used first.
    endpoints: Vec<Endpoint<'a>>,
    /// How many more there are.
    more: usize,
    /// Connections that are still with those that are no endpoints any longer.
    elsewhere: u64,
}

/// An endpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    local: bool,
    used: bool,
    terminating: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'a str>,
    connections: u64,
}

/// The Service that is asked for, if there is one.
pub(super) fn detail<'a>(snapshot: &'a Snapshot, which: &Which) -> Option<Detail<'a>> {
    let is_it = |service: &ServiceView| service.namespace == which.namespace && service.name == which.name;
    let number = snapshot.services.iter().position(is_it)?;
    let service = &snapshot.services[number];
    let ports = service.ports.iter().enumerate();
    Some(Detail {
        taken: snapshot.taken,
        internal_traffic_policy: &service.internal_traffic_policy,
        external_traffic_policy: &service.external_traffic_policy,
        affinity_seconds: service.affinity_seconds,
        ports: ports
            .map(|(port_number, port)| port_of(snapshot, service, (number, port_number), port))
            .collect(),
    })
}

fn port_of<'a>(
    snapshot: &Snapshot,
    service: &ServiceView,
    place: (usize, usize),
    port: &'a PortView,
) -> Port<'a> {
    let is_used = |endpoint: &EndpointView| is_used(service, port, endpoint);
    let counts = snapshot.shares.of(place);
    let connections = |address| counts.and_then(|counts| counts.get(&address)).copied().unwrap_or(0);
    let total = snapshot.shares.total(place);
    let known: u64 = port.endpoints.iter().map(|endpoint| connections(endpoint.address)).sum();
    let mut endpoints: Vec<&EndpointView> = port.endpoints.iter().collect();
    endpoints.sort_by_key(|endpoint| (!is_used(endpoint), endpoint.address));
    Port {
        name: &port.name,
        protocol: &port.protocol,
        port: port.port,
        connections: total,
        used: endpoints.iter().filter(|endpoint| is_used(endpoint)).count(),
        more: endpoints.len().saturating_sub(MOST_ENDPOINTS),
        elsewhere: total.saturating_sub(known),
        endpoints: endpoints
            .into_iter()
            .take(MOST_ENDPOINTS)
            .map(|endpoint| Endpoint {
                address: endpoint.address,
                node: endpoint.node.as_deref(),
                local: endpoint.local,
                used: is_used(endpoint),
                terminating: endpoint.terminating,
                why_not: endpoint.why_not.as_deref(),
                connections: connections(endpoint.address),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{endpoint, port, service};
    use super::*;
    use crate::telemetry::shares::Shares;

    #[test]
    fn endpoints_that_are_used_come_first_and_there_is_a_bound() {
        let unused =
            |number| EndpointView { used_by_cluster: false, used_by_local: false, ..endpoint(number) };
        let mut endpoints = vec![unused(0)];
        endpoints.extend((1..=MOST_ENDPOINTS + 9).map(|number| EndpointView {
            address: ([10, 1, 1, 1], u16::try_from(number).unwrap()).into(),
            ..endpoint(1)
        }));
        let services = vec![service("a", vec![]), service("web", vec![port("http", endpoints)])];
        let snapshot = Snapshot::new(services, Shares::default(), Vec::new());
        let detail = detail(&snapshot, &Which::read("namespace=test&name=web")).unwrap();
        let port = &detail.ports[0];
        assert_eq!((port.endpoints.len(), port.more, port.used), (MOST_ENDPOINTS, 10, MOST_ENDPOINTS + 9));
        assert!(port.endpoints.iter().all(|endpoint| endpoint.used));
        for other in ["namespace=test", "name=web", "", "namespace=test&name=web2"] {
            assert!(super::detail(&snapshot, &Which::read(other)).is_none(), "{other}");
        }
    }
}
