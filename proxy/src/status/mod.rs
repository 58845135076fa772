//! `pointsman status`: asks the process that runs on this machine how it stands.
//!
//! [`Status`] is what is told, as JSON over a unix socket (`GET /status`); `reporter` puts it together in the process
//! that is asked, `client` asks, `table` shows it to people.

mod client;
pub(crate) mod place;
mod reporter;
mod table;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::{Output, StatusFlags};
use crate::config::KubeProxyConfiguration;

pub(crate) use reporter::Reporter;

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
    /// Service ports, one for each family.
    pub(crate) service_ports: usize,
    /// Those among them that the kernel refuses.
    pub(crate) left_out: i64,
    /// Where userspace mode listens; empty in other modes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) targets: Vec<Target>,
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

/// Asks, and prints the answer.
///
/// # Errors
/// When nobody answers, with what to do about it.
pub(crate) fn show(flags: &StatusFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let status = client::ask(&place::to_ask(socket)?)?;
    let text = match flags.output {
        Output::Table | Output::Wide => {
            let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            table::render(&status, table::Look { wide: flags.output == Output::Wide, colour })
        }
        Output::Json => serde_json::to_string_pretty(&status)? + "\n",
        Output::Yaml => serde_saphyr::to_string(&status)?,
    };
    crate::manual::print(&text)
}
