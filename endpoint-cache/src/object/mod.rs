//! The parts of Kubernetes objects that a node's proxy reads, as they are on the wire.
//!
//! Decoding is lenient on purpose: unknown fields are ignored, `null` means the default, and addresses, ports and
//! enumerations stay as written. They are checked when the [`Cache`](crate::Cache) takes an object in, so that one bad
//! address costs that address and a [`Problem`](crate::Problem), not the object.

mod endpoint_slice;
mod node;
mod service;
mod service_cidr;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

pub use endpoint_slice::{Conditions, EndpointSlice, Hint, Hints, SliceEndpoint, SlicePort};
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
pub use service::{
    ClientIpConfig, LoadBalancerIngress, LoadBalancerStatus, Port, Service, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
pub use service_cidr::{ServiceCidr, ServiceCidrSpec};

/// What every object carries. Fields that nobody reads are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name, unique in the namespace.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub name: String,
    /// Namespace; empty means `default` for what has one.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub namespace: String,
    /// What tells it from another object of the same name, before it or after it; opaque.
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Option<String>,
    /// Labels.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// When it was created (RFC 3339, UTC).
    #[serde(skip_serializing_if = "is_default")]
    pub creation_timestamp: Option<String>,
    /// When its deletion was asked for, if it was.
    #[serde(skip_serializing_if = "is_default")]
    pub deletion_timestamp: Option<String>,
    /// Which version of the object this is; opaque.
    #[serde(skip_serializing_if = "is_default")]
    pub resource_version: Option<String>,
}

impl Metadata {
    /// Name of a namespaced object: in namespace `default` if it names none.
    #[must_use]
    pub fn namespaced(&self) -> ObjectName {
        let namespace = if self.namespace.is_empty() { DEFAULT_NAMESPACE } else { &self.namespace };
        ObjectName::new(namespace, &self.name)
    }

    /// Name of an object that is in no namespace, whatever it says.
    #[must_use]
    pub fn cluster_scoped(&self) -> ObjectName {
        ObjectName::new("", &self.name)
    }
}

/// Where namespaced objects that name no namespace are.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Namespace and name of an object. Displays as `namespace/name`, or `name` for what has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name in the namespace.
    pub name: Arc<str>,
}

impl ObjectName {
    /// The name of an object.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The kinds of object that are read: the first four by the cache, the others (and the Node) by policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Service
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice
    EndpointSlice,
    /// `v1` Node
    Node,
    /// `networking.k8s.io/v1` ServiceCIDR
    ServiceCidr,
    /// `v1` Pod, for policies
    Pod,
    /// `v1` Namespace, for policies
    Namespace,
    /// `networking.k8s.io/v1` NetworkPolicy
    NetworkPolicy,
}

impl Kind {
    /// The `kind` of the object, as manifests write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }
}

impl Kind {
    /// Several of them, in a sentence.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "Services",
            Self::EndpointSlice => "EndpointSlices",
            Self::Node => "Nodes",
            Self::ServiceCidr => "ServiceCIDRs",
            Self::Pod => "Pods",
            Self::Namespace => "Namespaces",
            Self::NetworkPolicy => "NetworkPolicies",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object among all kinds. Displays as `Service namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: ObjectName,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Reads `null` as the default: API servers and generators write it for empty lists, maps and strings.
///
/// # Errors
/// Those of the type.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a field need not be written.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
