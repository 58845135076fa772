//! Putting together how this process stands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use endpoint_cache::TrafficPolicy;
use jiff::Timestamp;
use modes::userspace::forward::{EndpointStatus, Forwarder, TargetStatus};

use super::{Endpoint, InForce, Network, Objects, Policies, Status, SyncReport, Target};
use crate::cli::Flag;
use crate::diff::Diff;
use crate::manual::VERSION;
use crate::policy::{self, PolicyView};
use crate::telemetry::{Sync, Telemetry};
use crate::view::{Desk, SettingsView, View};

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
    /// Where the sync loop is asked.
    pub(crate) desk: Desk,
    /// Where the loop of policies is asked.
    pub(crate) policies: Arc<policy::Desk>,
}

impl Reporter {
    /// The Services and endpoints as it sees them now. Takes the sync loop's time: in proportion to how many there are.
    ///
    /// # Errors
    /// When the sync loop does not answer in time.
    pub(crate) async fn view(&self) -> anyhow::Result<View> {
        let configuration = self.in_force.get();
        let settings = SettingsView {
            detect_local_mode: configuration.detect_local_mode.clone(),
            cluster_cidr: configuration.cluster_cidr.clone(),
            masquerade_all: if self.mode == "nftables" {
                configuration.nftables.masquerade_all
            } else {
                configuration.iptables.masquerade_all
            },
            node_port_addresses: configuration.node_port_addresses.clone(),
            localhost_node_ports: configuration.iptables.localhost_node_ports,
            ipvs_scheduler: configuration.ipvs.scheduler.clone(),
        };
        let (node, mode) = (self.node.clone(), self.mode.to_owned());
        Ok(View { node, mode, settings, ..self.desk.ask().await? })
    }

    /// How the kernel differs from what should be there. Takes the sync loop's time, to read the kernel.
    ///
    /// # Errors
    /// When the sync loop does not answer in time, or the kernel cannot be read.
    pub(crate) async fn diff(&self) -> anyhow::Result<Diff> {
        Ok(Diff::of(self.mode, self.desk.compare().await?))
    }

    /// The pods, namespaces and policies that it knows now. Takes the policy loop's time, in proportion to how many there are.
    ///
    /// # Errors
    /// When policies are not enforced, or the policy loop does not answer in time.
    pub(crate) async fn policy_view(&self) -> anyhow::Result<PolicyView> {
        Ok(PolicyView { node: Some(self.node.clone()), ..self.policies.ask().await? })
    }

    /// How it stands now.
    pub(crate) fn status(&self) -> Status {
        let (last_synced, last_error) = self.telemetry.health.last();
        let (census, rules) = self.telemetry.inventory.now();
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
            waiting_seconds: self.telemetry.health.waiting(Instant::now()).map(|waiting| waiting.as_secs()),
            last_sync: self.telemetry.syncs.succeeded_last().map(sync),
            objects: Objects {
                services: census.services,
                endpoint_slices: census.slices,
                endpoints: census.endpoints,
            },
            watches: self.telemetry.health.watches(),
            iptables_rules: Some(rules).filter(|rules| *rules > 0),
            service_ports: self.telemetry.service_ports(),
            left_out: self.telemetry.metrics.left_out(),
            drift: self.telemetry.drift.get(),
            policies: self.policies(),
            network: self.network(),
            targets: targets.iter().map(target).collect(),
        }
    }
}

impl Reporter {
    fn policies(&self) -> Option<Policies> {
        let (enforced, known) = self.telemetry.policies.now()?;
        let (last_synced, last_error, waiting) = self.telemetry.health.of_policies(Instant::now());
        let [isolated_ingress, isolated_egress] = known.isolated;
        Some(Policies {
            enforced_by: enforced.by.to_owned(),
            audit: enforced.audit,
            known: known.policies,
            pods: known.pods,
            local_pods: known.local,
            isolated_ingress,
            isolated_egress,
            problems: known.problems,
            last_synced,
            last_error,
            waiting_seconds: waiting.map(|waiting| waiting.as_secs()),
            drift: self.telemetry.policies.drift.get(),
        })
    }
}

impl Reporter {
    fn network(&self) -> Option<Network> {
        let network = &self.telemetry.network;
        let (joined, known) = network.now()?;
        let (last_synced, last_error, waiting) = self.telemetry.health.of_network(Instant::now());
        Some(Network {
            backend: joined.backend.to_owned(),
            data_path: joined.data_path.to_owned(),
            ready: known.ready,
            why_not: known.why_not,
            ranges: known.ranges,
            uplinks: known.uplinks,
            mtu: known.mtu,
            tunnelled: known.tunnelled,
            direct: known.direct,
            problems: known.problems,
            refused: known.refused,
            sessions: network.sessions().into_iter().map(|session| (session.name, session.state)).collect(),
            bird_error: network.bird_error(),
            announcement_error: network.announcement_error(),
            last_synced,
            last_error,
            waiting_seconds: waiting.map(|waiting| waiting.as_secs()),
            drift: network.drift.get(),
        })
    }
}

fn sync(Sync { full, milliseconds, changes, operations, .. }: Sync) -> SyncReport {
    SyncReport { full, milliseconds, changes, operations }
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
