//! What the process tells of itself: metrics and health, over HTTP.
//!
//! Everything writes here and nothing is decided by what stands here.

mod drift;
mod health;
mod inventory;
mod metrics;
mod network;
mod pages;
mod policies;
mod server;
mod shares;
mod socket;
mod status_page;
mod syncs;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use endpoint_cache::object::Kind;

pub(crate) use drift::{Drift, Repair, Repairs};
pub(crate) use health::{Health, Watch};
pub(crate) use inventory::Inventory;
pub(crate) use metrics::{Extent, Metrics, Origin, Probe, Requests};
pub(crate) use network::{ESTABLISHED, Joined, Network, NetworkKnown, Session};
pub(crate) use policies::{Enforced, Known, Policies};
pub(crate) use server::{Endpoints, serve};
pub(crate) use socket::Socket;
pub(crate) use syncs::{Sync, Syncs};
pub(crate) use traffic::Traffic;

/// Shared by all parts of the process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// What userspace mode carries.
    pub(crate) traffic: Traffic,
    /// What is told of policies.
    pub(crate) policies: Arc<Policies>,
    /// What is told of the pod network.
    pub(crate) network: Arc<Network>,
    /// What there is to serve.
    pub(crate) inventory: Inventory,
    /// What others changed.
    pub(crate) drift: Drift,
    /// The last syncs.
    pub(crate) syncs: Syncs,
    service_ports: AtomicUsize,
}

impl Telemetry {
    /// Nothing has happened yet. The process is unhealthy once a change has waited for longer than `stale_after`.
    pub(crate) fn new(stale_after: Duration) -> Arc<Self> {
        let traffic = Traffic::default();
        let policies = Arc::new(Policies::default());
        let network = Arc::new(Network::default());
        let metrics = Metrics::new(traffic.clone(), &policies, &network);
        let health = Health::new(stale_after);
        Arc::new(Self {
            metrics,
            health,
            traffic,
            policies,
            network,
            inventory: Inventory::default(),
            drift: Drift::default(),
            syncs: Syncs::default(),
            service_ports: AtomicUsize::default(),
        })
    }

    /// So many service ports are to be in force, one for each family.
    pub(crate) fn set_service_ports(&self, count: usize) {
        self.service_ports.store(count, Ordering::Relaxed);
    }

    /// How many service ports are to be in force.
    pub(crate) fn service_ports(&self) -> usize {
        self.service_ports.load(Ordering::Relaxed)
    }

    /// The server sent something about a kind: an object, a bookmark, an answer.
    pub(crate) fn heard(&self, kind: Kind) {
        self.health.heard(kind);
        self.metrics.heard(kind);
    }

    /// A kind is not watched, because of this. `reason` is a word for metrics.
    pub(crate) fn watch_failed(&self, kind: Kind, reason: &'static str, error: &str) {
        self.health.watch_failed(kind, error);
        self.metrics.watch_failed(kind, reason);
    }
}
