//! `networking.k8s.io/v1` NetworkPolicy.

use endpoint_cache::object::{Metadata, ObjectName, is_default, or_default};
use serde::{Deserialize, Serialize};

use super::LabelSelector;

/// A NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    /// Name and namespace.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What it asks for.
    #[serde(deserialize_with = "or_default")]
    pub spec: NetworkPolicySpec,
}

impl NetworkPolicy {
    /// Its namespace (`default` if it names none) and name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.namespaced()
    }
}

/// `NetworkPolicy.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Which pods of the policy's namespace it isolates.
    #[serde(deserialize_with = "or_default")]
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`; none means `Ingress`, and `Egress` if there are egress rules.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub policy_types: Vec<String>,
    /// What may come in.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ingress: Vec<IngressRule>,
    /// What may go out.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub egress: Vec<EgressRule>,
}

/// One of `spec.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressRule {
    /// Who may come in; none means anybody.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub from: Vec<Peer>,
    /// At which ports; none means all.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ports: Vec<NetworkPolicyPort>,
}

/// One of `spec.egress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressRule {
    /// Who may be reached; none means anybody.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub to: Vec<Peer>,
    /// At which ports; none means all.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ports: Vec<NetworkPolicyPort>,
}

/// Who is at the other end: pods by selectors, or a block of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Pods with these labels; in the policy's own namespace, unless `namespace_selector` is there.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces with these labels.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses; excludes the other two.
    #[serde(skip_serializing_if = "is_default")]
    pub ip_block: Option<IpBlock>,
}

/// A block of addresses, less some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// The block.
    #[serde(deserialize_with = "or_default")]
    pub cidr: String,
    /// What of it is left out; each strictly within it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub except: Vec<String>,
}

/// A port, a range of ports, or all ports of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPort {
    /// `TCP` (also when there is none), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: Option<String>,
    /// Its number, or the name that a pod's container gives it; none means all.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<PortOrName>,
    /// Last port of a range that begins at `port`.
    #[serde(skip_serializing_if = "is_default")]
    pub end_port: Option<i32>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortOrName {
    /// A number.
    Number(i64),
    /// A name.
    Name(String),
}
