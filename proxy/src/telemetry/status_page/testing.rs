//! Services for tests.

use crate::view::{EndpointView, PortView, ServiceView};

/// A Service with a ClusterIP.
pub(super) fn service(name: &str, ports: Vec<PortView>) -> ServiceView {
    ServiceView {
        namespace: "test".to_owned(),
        name: name.to_owned(),
        kind: "ClusterIP".to_owned(),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        internal_traffic_policy: "Cluster".to_owned(),
        external_traffic_policy: "Cluster".to_owned(),
        ports,
        ..ServiceView::default()
    }
}

/// Port 80 over TCP.
pub(super) fn port(name: &str, endpoints: Vec<EndpointView>) -> PortView {
    PortView { name: name.to_owned(), protocol: "TCP".to_owned(), port: 80, node_port: None, endpoints }
}

/// A ready endpoint on this node.
pub(super) fn endpoint(number: u8) -> EndpointView {
    EndpointView {
        address: format!("10.1.0.{number}:8080").parse().unwrap(),
        node: Some("node".to_owned()),
        local: true,
        ready: true,
        serving: true,
        terminating: false,
        slice: "slice".to_owned(),
        used_by_cluster: true,
        used_by_local: true,
        why_not: None,
    }
}
