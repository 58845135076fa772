//! Clusters of plain Services, as large as asked for.

use std::net::Ipv4Addr;

use endpoint_cache::Update;
use endpoint_cache::object::{
    Conditions, EndpointSlice, Metadata, Port, Service, ServiceSpec, SliceEndpoint, SlicePort,
};

/// The node that every eighth endpoint is on.
pub const NODE: &str = "node-0";

const NODES: u32 = 8;
const SERVICE_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const POD_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);

/// Services of one port each, and a slice of ready endpoints for each.
#[must_use]
pub fn updates(services: u32, endpoints: u32) -> Vec<Update> {
    let numbers = 0..services;
    numbers
        .flat_map(|number| {
            let slice = slice(number, number * endpoints..(number + 1) * endpoints);
            [Update::Service(service(number)), Update::EndpointSlice(slice)]
        })
        .collect()
}

/// The Service of this number.
#[must_use]
pub fn service(number: u32) -> Service {
    let cluster_ip = cluster_ip(number).to_string();
    Service {
        metadata: metadata(format!("service-{number}")),
        spec: ServiceSpec {
            service_type: "ClusterIP".to_owned(),
            cluster_ip: cluster_ip.clone(),
            cluster_ips: vec![cluster_ip],
            ip_families: vec!["IPv4".to_owned()],
            ports: vec![Port {
                name: "http".to_owned(),
                protocol: "TCP".to_owned(),
                port: 80,
                ..Port::default()
            }],
            ..ServiceSpec::default()
        },
        ..Service::default()
    }
}

/// A slice of the Service of this number, with the pods of these numbers.
#[must_use]
pub fn slice(number: u32, pods: std::ops::Range<u32>) -> EndpointSlice {
    let mut metadata = metadata(format!("service-{number}-abcde"));
    metadata.labels.insert("kubernetes.io/service-name".to_owned(), format!("service-{number}"));
    EndpointSlice {
        metadata,
        address_type: "IPv4".to_owned(),
        endpoints: pods.map(endpoint).collect(),
        ports: vec![SlicePort {
            name: Some("http".to_owned()),
            protocol: "TCP".to_owned(),
            port: Some(8080),
        }],
    }
}

fn endpoint(pod: u32) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![pod_ip(pod).to_string()],
        conditions: Conditions { ready: Some(true), serving: Some(true), terminating: Some(false) },
        node_name: Some(format!("node-{}", pod % NODES)),
        ..SliceEndpoint::default()
    }
}

fn metadata(name: String) -> Metadata {
    Metadata {
        name,
        namespace: "default".to_owned(),
        creation_timestamp: Some("2026-01-01T00:00:00Z".to_owned()),
        ..Metadata::default()
    }
}

/// The ClusterIP of the Service of this number.
#[must_use]
pub fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(SERVICE_NETWORK) + number + 1)
}

/// The address of the pod of this number.
#[must_use]
pub fn pod_ip(pod: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(POD_NETWORK) + pod + 1)
}
