//! `networking.k8s.io/v1` ServiceCIDR.

use serde::{Deserialize, Serialize};

use super::{Metadata, ObjectName, is_default, or_default};

/// A ServiceCIDR: ranges that ClusterIPs are allocated from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// The ranges.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub spec: ServiceCidrSpec,
}

impl ServiceCidr {
    /// Its name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.cluster_scoped()
    }
}

/// `ServiceCIDR.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    /// Ranges, at most one a family.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub cidrs: Vec<String>,
}
