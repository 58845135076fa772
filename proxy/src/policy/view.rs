//! What the process tells of policies (`GET /policies` at its socket): all that verdicts follow from.

use policy::Snapshot;
use serde::{Deserialize, Serialize};

/// What is known of policies at one moment. Fields may be added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyView {
    /// The node whose process tells it; `None` if it is no process that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Whether nothing is denied.
    pub(crate) audit: bool,
    /// Whether addresses of no known pod are denied.
    pub(crate) denies_unknown: bool,
    /// Pods, namespaces and policies.
    pub(crate) snapshot: Snapshot,
}
