//! What is told, for people and for programs.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::diagnose::Finding;
use super::model::Step;
use crate::policy::tools::Judgement;

/// Everything that is told. Fields may be added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The node's name, if a pointsman runs on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// The mode that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    /// One for each address that was asked about; at least one.
    pub(super) traces: Vec<Trace>,
}

/// What becomes of a connection to one address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    /// Who connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<IpAddr>,
    /// The interface by which its packets come; `None` if this node sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<String>,
    /// Where to; `None` for a Service without an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<SocketAddr>,
    /// `tcp`, `udp` or `sctp`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<String>,
    /// `namespace/name:port`, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    /// Which of its addresses it is: `ClusterIP`, `node port`, `external IP` or `load-balancer IP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) frontend: Option<String>,
    /// The mode whose rules decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rules: Option<String>,
    /// Other modes that have rules in the kernel, which come later or do nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also_there: Vec<String>,
    /// What every packet meets first, in order.
    pub(super) steps: Vec<Step>,
    /// What may become of it then; the shares add up to 1.
    pub(super) ways: Vec<WayReport>,
    /// What policies say of it, for each that it may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) policies: Vec<Judgement>,
    /// Connections that are there already, and stay with their endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) existing: Vec<ExistingReport>,
    /// What is worth knowing: first what stands in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) findings: Vec<Finding>,
    /// What could not be evaluated, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unknown: Vec<String>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It goes to an endpoint.
    Endpoint,
    /// It goes where it is addressed to, as if there were no Services.
    Untranslated,
    /// It is answered with an error.
    Rejected,
    /// It is dropped without an answer.
    Dropped,
}

/// One of the ways that it may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WayReport {
    /// How probable it is, from 0 to 1.
    pub(super) share: f64,
    /// What becomes of it.
    pub(super) outcome: Outcome,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<SocketAddr>,
    /// Whether its source becomes an address of the node's; `None` if the forwarder decides that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) masquerade: Option<bool>,
    /// The address that the endpoint sees, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen_as: Option<IpAddr>,
    /// The endpoint's node, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// Whether that is this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) local: Option<bool>,
    /// What it meets after what all do.
    pub(super) steps: Vec<Step>,
    /// What the running pointsman thinks otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) difference: Option<String>,
}

/// A connection that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExistingReport {
    /// Port that the client speaks from.
    pub(super) source_port: u16,
    /// Who answers.
    pub(super) endpoint: SocketAddr,
}
