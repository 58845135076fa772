//! `v1` Pod.

use endpoint_cache::object::{Metadata, ObjectName, is_default, or_default};
use serde::{Deserialize, Serialize};

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, namespace, labels, creation time.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What is asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// What the kubelet reported.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub status: PodStatus,
}

impl Pod {
    /// Its namespace (`default` if it names none) and name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.namespaced()
    }
}

/// `Pod.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that it runs on; empty until it is scheduled.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub node_name: String,
    /// Whether it shares the node's network, and with it the node's address.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub host_network: bool,
    /// Its containers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub containers: Vec<Container>,
    /// Containers that run before those, of which some go on running.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub init_containers: Vec<Container>,
}

/// One of a pod's containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The ports that it names.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ports: Vec<ContainerPort>,
}

/// A port that a container names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name; one without cannot be asked for by name.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub name: String,
    /// Its number.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub container_port: i32,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub protocol: String,
}

/// `Pod.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub phase: String,
    /// Its first address.
    #[serde(rename = "podIP", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub pod_ip: String,
    /// Its addresses, at most one a family, the first among them.
    #[serde(rename = "podIPs", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub pod_ips: Vec<PodIp>,
}

/// One of `Pod.status.podIPs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
}
