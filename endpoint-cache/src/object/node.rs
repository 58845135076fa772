//! `v1` Node.

use serde::{Deserialize, Serialize};

use super::{Metadata, ObjectName, is_default, or_default};

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name and labels; the label `topology.kubernetes.io/zone` names the zone.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What the cluster assigned to it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub spec: NodeSpec,
    /// What it reported.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub status: NodeStatus,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.cluster_scoped()
    }
}

/// `Node.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// The first range of its pods' addresses.
    #[serde(rename = "podCIDR", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub pod_cidr: String,
    /// The ranges of its pods' addresses, one a family.
    #[serde(rename = "podCIDRs", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub pod_cidrs: Vec<String>,
    /// Taints.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub taints: Vec<Taint>,
}

/// One of `Node.spec.taints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Key.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
    /// Effect.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub effect: String,
}

/// `Node.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and host names.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub addresses: Vec<NodeAddress>,
}

/// One of `Node.status.addresses`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, ...
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub address_type: String,
    /// The address or name.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
}
