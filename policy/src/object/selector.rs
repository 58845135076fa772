//! `meta/v1` LabelSelector.

use std::collections::BTreeMap;

use endpoint_cache::object::{is_default, or_default};
use serde::{Deserialize, Serialize};

/// Which labels an object must have: all of these. An empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with their values.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub match_expressions: Vec<Requirement>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// The label.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(deserialize_with = "or_default")]
    pub operator: String,
    /// What it is compared with.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub values: Vec<String>,
}
