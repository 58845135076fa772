//! Putting together how this process stands.

use std::net::SocketAddr;
use std::sync::Arc;

use endpoint_cache::TrafficPolicy;
use jiff::Timestamp;
use modes::userspace::forward::{EndpointStatus, Forwarder, TargetStatus};

use super::{Endpoint, InForce, Status, Target};
use crate::cli::Flag;
use crate::manual::VERSION;
use crate::telemetry::Telemetry;

/// Knows where everything is told.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The mode's name.
    pub(crate) mode: &'static str,
    /// The node's name.
    pub(crate) node: String,
    /// When the process started.
    pub(crate) started: Timestamp,
    /// What the process tells of itself.
    pub(crate) telemetry: Arc<Telemetry>,
    /// What is asked of it.
    pub(crate) in_force: Arc<InForce>,
    /// Its command line.
    pub(crate) flags: Vec<Flag>,
}

impl Reporter {
    /// How it stands now.
    pub(crate) fn status(&self) -> Status {
        let (last_synced, last_error) = self.telemetry.health.last();
        let targets = self.telemetry.traffic.forwarder().map(Forwarder::status).unwrap_or_default();
        Status {
            version: VERSION.to_owned(),
            mode: self.mode.to_owned(),
            node: self.node.clone(),
            process: std::process::id(),
            started: self.started,
            current_time: Timestamp::now(),
            last_synced,
            last_error,
            service_ports: self.telemetry.service_ports(),
            left_out: self.telemetry.metrics.left_out(),
            targets: targets.iter().map(target).collect(),
        }
    }
}

fn target(target: &TargetStatus) -> Target {
    let policy = match target.key.policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    Target {
        service_port: target.key.name.to_string(),
        protocol: target.key.name.protocol.to_string(),
        traffic_policy: policy.to_owned(),
        listens: target.listens,
        active: target.active,
        endpoints: target.endpoints.iter().map(endpoint).collect(),
    }
}

fn endpoint(status: &EndpointStatus) -> Endpoint {
    Endpoint {
        address: SocketAddr::new(status.endpoint.address, status.endpoint.port),
        active: status.active,
        total: status.total,
        failures: status.failures,
        set_aside_seconds: status.set_aside.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0)),
    }
}
