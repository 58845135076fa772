//! `discovery.k8s.io/v1` EndpointSlice.

use serde::{Deserialize, Serialize};

use super::{Metadata, ObjectName, is_default, or_default};

/// An EndpointSlice: some of the endpoints of a Service, all with the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Name and labels; the label `kubernetes.io/service-name` names the Service.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "or_default")]
    pub address_type: String,
    /// The endpoints.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports of every endpoint in this slice.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ports: Vec<SlicePort>,
}

impl EndpointSlice {
    /// Its namespace (`default` if it names none) and name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.namespaced()
    }
}

/// One of `EndpointSlice.endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// Addresses, all of the same pod; only the first is used.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub conditions: Conditions,
    /// The node it runs on.
    #[serde(skip_serializing_if = "is_default")]
    pub node_name: Option<String>,
    /// Whose traffic it is meant for.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub hints: Hints,
}

/// `EndpointSlice.endpoints[].conditions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Takes new traffic; true if not given.
    #[serde(skip_serializing_if = "is_default")]
    pub ready: Option<bool>,
    /// Answers, though it may be on its way out; true if not given.
    #[serde(skip_serializing_if = "is_default")]
    pub serving: Option<bool>,
    /// On its way out; false if not given.
    #[serde(skip_serializing_if = "is_default")]
    pub terminating: Option<bool>,
}

/// `EndpointSlice.endpoints[].hints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// Zones whose traffic it should take.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub for_zones: Vec<Hint>,
    /// Nodes whose traffic it should take.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub for_nodes: Vec<Hint>,
}

/// A zone or node named in a hint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// Name of the zone or node.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// One of `EndpointSlice.ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// Name of the Service's port; the API server writes an empty one where none is given.
    #[serde(skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub protocol: String,
    /// The port on the pod. Without one the slice says "every port", which a Service cannot use.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<i32>,
}
