//! `pointsman status`: asks the process that runs on this machine how it stands.
//!
//! [`Status`] is what is told, as JSON over a unix socket (`GET /status`); `reporter` puts it together in the process
//! that is asked, `client` asks, `table` shows it to people.

pub(crate) mod client;
pub(crate) mod place;
mod reporter;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::StatusFlags;
use crate::config::KubeProxyConfiguration;
use crate::output;
use crate::telemetry::{Repairs, Watch};

/// The mode of a process that is no proxy.
pub(crate) const NO_PROXY: &str = "none";

pub(crate) use reporter::Reporter;

/// How long the answer may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The configuration in force, which may change in flight.
#[derive(Debug)]
pub(crate) struct InForce(Mutex<Arc<KubeProxyConfiguration>>);

impl InForce {
    /// From the start.
    pub(crate) fn new(configuration: KubeProxyConfiguration) -> Self {
        Self(Mutex::new(Arc::new(configuration)))
    }

    /// From now on.
    pub(crate) fn set(&self, configuration: KubeProxyConfiguration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(configuration);
    }

    /// Now.
    pub(crate) fn get(&self) -> Arc<KubeProxyConfiguration> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a process stands. Fields may be added; readers skip those that they do not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Of the program.
    pub(crate) version: String,
    /// The mode that it works in.
    pub(crate) mode: String,
    /// The node's name.
    pub(crate) node: String,
    /// The process's number.
    pub(crate) process: u32,
    /// Since when it runs.
    pub(crate) started: Timestamp,
    /// When this was told.
    pub(crate) current_time: Timestamp,
    /// When everything was last in force; none before the first sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_synced: Option<Timestamp>,
    /// Why the last attempt to sync failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// For how many seconds a change has been waiting to be programmed, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting_seconds: Option<u64>,
    /// What the last sync did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_sync: Option<SyncReport>,
    /// What there is to serve.
    #[serde(default)]
    pub(crate) objects: Objects,
    /// What the API server is asked for, by kind; empty with manifests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watches: BTreeMap<String, Watch>,
    /// Rules of iptables that are in force, where the mode counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iptables_rules: Option<usize>,
    /// Service ports, one for each family.
    pub(crate) service_ports: usize,
    /// Those among them that the kernel refuses.
    pub(crate) left_out: i64,
    /// What others changed in the kernel, and was put right.
    #[serde(default)]
    pub(crate) drift: Repairs,
    /// How policies stand, if they are enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policies: Option<Policies>,
    /// How the pod network stands, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Network>,
    /// Where userspace mode listens; empty in other modes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) targets: Vec<Target>,
}

/// What a sync did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SyncReport {
    /// Whether everything was read and compared, and not only what had changed.
    pub(crate) full: bool,
    /// How long it took.
    pub(crate) milliseconds: f64,
    /// Service ports that had changed, one for each family.
    pub(crate) changes: usize,
    /// Rules, elements and the like that were written or removed.
    pub(crate) operations: usize,
}

/// Objects that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Objects {
    /// Services that are served.
    pub(crate) services: usize,
    /// EndpointSlices.
    pub(crate) endpoint_slices: usize,
    /// Their endpoints.
    pub(crate) endpoints: usize,
}

/// How policies stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Policies {
    /// What enforces them.
    pub(crate) enforced_by: String,
    /// Whether nothing is denied.
    pub(crate) audit: bool,
    /// How many there are.
    pub(crate) known: usize,
    /// Pods that they know, on whichever node.
    pub(crate) pods: usize,
    /// Those of them that run here.
    pub(crate) local_pods: usize,
    /// Addresses here whose ingress is isolated.
    pub(crate) isolated_ingress: usize,
    /// Addresses here whose egress is isolated.
    pub(crate) isolated_egress: usize,
    /// What makes no sense in them.
    pub(crate) problems: usize,
    /// When all were last in force; none before the first sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_synced: Option<Timestamp>,
    /// Why the last attempt to sync failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// For how many seconds a change has been waiting to be programmed, if one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting_seconds: Option<u64>,
    /// What others changed in the kernel, and was put right.
    pub(crate) drift: Repairs,
}

/// How the pod network stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Network {
    /// What joins the nodes: `vxlan`, `host-gw` or `bgp`.
    pub(crate) backend: String,
    /// What joins pods to this node: `routed` or `bridge`.
    pub(crate) data_path: String,
    /// Whether pods can be given addresses.
    pub(crate) ready: bool,
    /// Why not, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why_not: Option<String>,
    /// This node's ranges.
    pub(crate) ranges: Vec<String>,
    /// The devices that lead to the other nodes, with the addresses there.
    pub(crate) uplinks: Vec<String>,
    /// Bytes of the largest packet that a pod may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// Ranges of other nodes' pods that are reached by a tunnel.
    pub(crate) tunnelled: usize,
    /// Those that are reached without.
    pub(crate) direct: usize,
    /// What is wrong with Nodes.
    pub(crate) problems: usize,
    /// Routes that the kernel refuses.
    pub(crate) refused: usize,
    /// BGP sessions by name, and how they stand.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sessions: BTreeMap<String, String>,
    /// Why BIRD does not do what it should, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bird_error: Option<String>,
    /// Why other nodes cannot be told of this one, if they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) announcement_error: Option<String>,
    /// When all was last in force; none before the first sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_synced: Option<Timestamp>,
    /// Why the last attempt to sync failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// For how many seconds a change has been waiting to be programmed, if one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting_seconds: Option<u64>,
    /// What others changed in the kernel, and was put right.
    pub(crate) drift: Repairs,
}

/// A place where userspace mode listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    /// `namespace/name:port`
    pub(crate) service_port: String,
    /// `tcp` or `udp`
    pub(crate) protocol: String,
    /// `Cluster` or `Local`
    pub(crate) traffic_policy: String,
    /// Where.
    pub(crate) listens: SocketAddr,
    /// Connections or sessions under way.
    pub(crate) active: usize,
    /// In the order in which they are used.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What serves a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Connections or sessions under way.
    pub(crate) active: usize,
    /// All there ever were.
    pub(crate) total: u64,
    /// Attempts to connect that failed.
    pub(crate) failures: u64,
    /// For how many more seconds others are preferred because it failed, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set_aside_seconds: Option<u64>,
}

/// Asks the process that runs on this machine, at its usual place or at the one given.
///
/// # Errors
/// When nobody answers, with what to do about it.
pub(crate) fn ask(socket: Option<&str>) -> anyhow::Result<Status> {
    client::ask(&place::to_ask(socket)?, "/status", WITHIN)
}

/// Asks, and prints the answer.
///
/// # Errors
/// When nobody answers, with what to do about it.
pub(crate) fn show(flags: &StatusFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let status = ask(socket)?;
    output::show(&status, flags.output, table::render)
}
