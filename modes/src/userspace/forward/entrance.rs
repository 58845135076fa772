//! An open target, as the threads that serve it share it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel::socket::{Datagrams, Listener};

use super::balance::Balancer;
use super::clock::Moment;
use super::endpoint::EndpointState;
use super::options::Balancing;
use super::target::{SourceAddress, Target, TargetKey, TargetStatus};

/// Number of an open target; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntranceId(pub(super) u32);

/// Where traffic comes in.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(Listener),
    /// A socket for each thread.
    Udp(Vec<Datagrams>),
}

impl Door {
    /// Lets in who comes from now on.
    pub(super) fn open(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.listen(),
            Self::Udp(sockets) => {
                sockets.iter().for_each(Datagrams::discard);
                Ok(())
            }
        }
    }
}

/// An open target with its door. Connections do without the door, so that it can be closed before they are.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) entrance: Arc<Entrance>,
    pub(super) door: Arc<Door>,
}

/// An open target.
pub(super) struct Entrance {
    pub(super) id: EntranceId,
    pub(super) key: TargetKey,
    pub(super) listens: SocketAddr,
    /// Connections or sessions under way.
    pub(super) active: AtomicUsize,
    inside: Mutex<Inside>,
}

struct Inside {
    balancer: Balancer,
    proxy_protocol: bool,
    source: SourceAddress,
}

/// An endpoint, and how to connect to it.
pub(super) struct Choice {
    pub(super) endpoint: Arc<EndpointState>,
    /// Whether to bear the client's address.
    pub(super) as_client: bool,
    /// Whether to begin with a PROXY protocol header.
    pub(super) proxy_protocol: bool,
}

impl Entrance {
    pub(super) fn new(id: EntranceId, key: TargetKey, listens: SocketAddr, target: &Target) -> Self {
        let inside = Inside {
            balancer: Balancer::default(),
            proxy_protocol: target.proxy_protocol,
            source: target.source.clone(),
        };
        let entrance = Self { id, key, listens, active: AtomicUsize::new(0), inside: Mutex::new(inside) };
        entrance.change(target);
        entrance
    }

    pub(super) fn change(&self, target: &Target) {
        let mut inside = self.inside();
        inside.balancer.replace(&target.endpoints, &target.serving, target.affinity);
        inside.proxy_protocol = target.proxy_protocol;
        inside.source = target.source.clone();
    }

    /// Where a client's new connection goes, other than to those that were tried.
    pub(super) fn choose(
        &self,
        client: IpAddr,
        tried: &[Arc<EndpointState>],
        balancing: Balancing,
        now: Moment,
    ) -> Option<Choice> {
        let (endpoint, proxy_protocol, source) = {
            let mut inside = self.inside();
            let endpoint = inside.balancer.choose(client, tried, balancing, now)?;
            (endpoint, inside.proxy_protocol, inside.source.clone())
        };
        let as_client = match source {
            SourceAddress::Node => false,
            // An endpoint drops what seems to come from itself.
            SourceAddress::Client(_) if client == endpoint.endpoint.address => false,
            SourceAddress::Client(keeps) => keeps(client, &endpoint.endpoint),
        };
        Some(Choice { endpoint, as_client, proxy_protocol })
    }

    /// One that nothing comes in at.
    #[cfg(test)]
    pub(super) fn for_tests() -> Arc<Self> {
        let name = endpoint_cache::ServicePortName {
            namespace: "ns".into(),
            name: "web".into(),
            port: "".into(),
            protocol: endpoint_cache::Protocol::Tcp,
        };
        let key = TargetKey {
            name: Arc::new(name),
            family: endpoint_cache::Family::V4,
            policy: endpoint_cache::TrafficPolicy::Cluster,
        };
        let listens = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 1);
        let source = SourceAddress::Node;
        let (endpoints, serving) = ([].into(), [].into());
        let target = Target { endpoints, serving, affinity: None, proxy_protocol: false, source };
        Arc::new(Self::new(EntranceId(0), key, listens, &target))
    }

    /// How many endpoints there are.
    pub(super) fn count(&self) -> usize {
        self.inside().balancer.endpoints().len()
    }

    pub(super) fn forget_idle(&self, now: Moment) {
        self.inside().balancer.forget_idle(now);
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn status(&self, now: Moment) -> TargetStatus {
        let endpoints = self.inside().balancer.endpoints().to_vec();
        TargetStatus {
            key: self.key.clone(),
            listens: self.listens,
            active: self.active(),
            endpoints: endpoints.iter().map(|state| state.status(now)).collect(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Whoever panicked while holding it left whole values behind.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Entrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entrance")
            .field("key", &self.key)
            .field("listens", &self.listens)
            .finish_non_exhaustive()
    }
}
