//! `v1` Namespace.

use endpoint_cache::object::{Metadata, ObjectName, or_default};
use serde::{Deserialize, Serialize};

/// A Namespace: policies know it by its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Name and labels. The API server adds the label `kubernetes.io/metadata.name`.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
}

impl Namespace {
    /// Its name.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        self.metadata.cluster_scoped()
    }
}
