//! `v1` Service.

use serde::{Deserialize, Serialize};

use super::{Metadata, ObjectName, is_default, or_default};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name, labels, creation time.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What is asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What the load balancer answered.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub status: ServiceStatus,
}

impl Service {
    /// Its namespace (`default` if it names none) and name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.namespaced()
    }
}

/// `Service.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` (also when empty), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub service_type: String,
    /// The first ClusterIP; empty or `None` for services that have none.
    #[serde(rename = "clusterIP", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub cluster_ip: String,
    /// The ClusterIPs, in the order of `ip_families`.
    #[serde(rename = "clusterIPs", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub cluster_ips: Vec<String>,
    /// `IPv4` and `IPv6`, the primary one first.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ip_families: Vec<String>,
    /// The ports.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ports: Vec<Port>,
    /// Addresses that the cluster's owner routes to the nodes.
    #[serde(rename = "externalIPs", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub external_ips: Vec<String>,
    /// `None` (also when empty) or `ClientIP`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub session_affinity: String,
    /// Settings of the session affinity.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// `Cluster` (also when empty) or `Local`, for traffic from outside.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub external_traffic_policy: String,
    /// `Cluster` (also when empty) or `Local`, for traffic to the ClusterIP.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub internal_traffic_policy: String,
    /// Clients that may use the load balancer's addresses.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Which endpoints are preferred: `PreferSameZone`, `PreferSameNode`, or empty for none in particular. The control
    /// plane follows it by hints.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub traffic_distribution: String,
    /// Whether endpoints count as ready before they are, and for as long as they exist.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub publish_not_ready_addresses: bool,
    /// Where a load balancer asks whether this node has endpoints; 0 for nowhere.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub health_check_node_port: i32,
}

/// One of `Service.spec.ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Name; may be empty if it is the only port.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub name: String,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub protocol: String,
    /// The port that clients connect to.
    #[serde(deserialize_with = "or_default")]
    pub port: i32,
    /// The port on every node; 0 for none.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub node_port: i32,
}

/// `Service.spec.sessionAffinityConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// Settings of affinity by client address.
    #[serde(rename = "clientIP", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub client_ip: ClientIpConfig,
}

/// `Service.spec.sessionAffinityConfig.clientIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// How long a client sticks to its endpoint after its last connection.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_seconds: Option<i32>,
}

/// `Service.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// What the load balancer answered.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// `Service.status.loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where it can be reached.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One of `Service.status.loadBalancer.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    /// Address; empty if the load balancer is known by a host name only.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ip: String,
    /// `VIP` (also when empty): packets arrive with the load balancer's address. `Proxy`: with the node's or pod's.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ip_mode: String,
}
