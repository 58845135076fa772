//! The forwarder: carries connections and datagrams between clients and endpoints.
//!
//! It knows nothing of how traffic gets to it. A [`Target`] is a place where it listens and the endpoints that serve
//! what arrives there.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::{Endpoint, Family, ServicePortName, TrafficPolicy};

/// How an endpoint is chosen for a new connection or session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest connections under way; in turn among equals.
    LeastConnections,
}

/// Bounds and times of a forwarder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that carry traffic.
    pub workers: NonZeroUsize,
    /// How endpoints are chosen.
    pub balancing: Balancing,
    /// TCP connections under way at most; `None` for what the limit of file descriptors allows.
    pub max_connections: Option<NonZeroUsize>,
    /// The same for a single target; `None` for no bound of its own.
    pub max_connections_per_target: Option<NonZeroUsize>,
    /// UDP sessions at most; `None` for what the limit of file descriptors allows.
    pub max_sessions: Option<NonZeroUsize>,
    /// After how long without a byte a TCP connection is closed.
    pub tcp_idle: Duration,
    /// The same once one side has closed.
    pub tcp_half_closed: Duration,
    /// After how long without a datagram a UDP session ends.
    pub udp_idle: Duration,
    /// How long each attempt to connect to an endpoint may take; as many attempts as there are times.
    pub connect_timeouts: Vec<Duration>,
    /// The mark of packets that bear a client's address ([`SourceAddress`]), so that answers can be led back here.
    pub mark: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            balancing: Balancing::default(),
            max_connections: None,
            max_connections_per_target: None,
            max_sessions: None,
            tcp_idle: Duration::from_secs(24 * 60 * 60),
            tcp_half_closed: Duration::from_secs(60 * 60),
            udp_idle: Duration::from_secs(30),
            connect_timeouts: [250, 500, 1000, 2000].map(Duration::from_millis).to_vec(),
            mark: None,
        }
    }
}

/// Which target it is: a service port has one for each traffic policy in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    /// Service port.
    pub name: Arc<ServicePortName>,
    /// Family of both its clients and its endpoints.
    pub family: Family,
    /// Whose endpoints these are.
    pub policy: TrafficPolicy,
}

/// From which address endpoints are connected to.
#[derive(Clone)]
pub enum SourceAddress {
    /// The node's.
    Node,
    /// The client's, where this says so; else the node's. A client that is the endpoint itself always appears under
    /// the node's address. Called by the threads that carry traffic, so it should be quick.
    Client(Arc<dyn Fn(IpAddr, &Endpoint) -> bool + Send + Sync>),
}

/// What a target forwards to, and how.
#[derive(Clone)]
pub struct Target {
    /// Where to spread what arrives. If empty, connections are refused.
    pub endpoints: Arc<[Endpoint]>,
    /// For how long a client is remembered after its last connection, if at all.
    pub affinity: Option<Duration>,
    /// Whether connections begin with a PROXY protocol header, version 2 (TCP only).
    pub proxy_protocol: bool,
    /// From which address.
    pub source: SourceAddress,
}

/// The state of a target, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Which.
    pub key: TargetKey,
    /// Where it listens.
    pub listens: SocketAddr,
    /// Connections or sessions under way.
    pub active: usize,
    /// Its endpoints, in the order in which they are used.
    pub endpoints: Vec<EndpointStatus>,
}

/// The state of an endpoint of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Which.
    pub endpoint: Endpoint,
    /// Connections or sessions under way.
    pub active: usize,
    /// All there ever were.
    pub total: u64,
    /// Attempts to connect that failed.
    pub failures: u64,
    /// For how much longer others are preferred because it failed, if they are.
    pub set_aside: Option<Duration>,
}

/// What all targets did, since the start but for the gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// TCP connections accepted.
    pub connections: u64,
    /// TCP connections under way (a gauge).
    pub active_connections: u64,
    /// TCP connections closed at once because a bound was reached.
    pub shed_by_bound: u64,
    /// TCP connections closed at once because there were no file descriptors left.
    pub shed_by_descriptors: u64,
    /// Attempts to connect to an endpoint that failed.
    pub connect_failures: u64,
    /// TCP connections that no endpoint took.
    pub unserved: u64,
    /// UDP sessions begun.
    pub sessions: u64,
    /// UDP sessions under way (a gauge).
    pub active_sessions: u64,
    /// UDP sessions ended early to make room.
    pub sessions_evicted: u64,
    /// Datagrams that were not passed on.
    pub datagrams_dropped: u64,
    /// Bytes from clients to endpoints.
    pub bytes_in: u64,
    /// Bytes from endpoints to clients.
    pub bytes_out: u64,
}

/// Why a target cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is taken.
    #[error("{0} is in use by another program")]
    InUse(SocketAddr),
    /// Something else.
    #[error("cannot listen on {address}: {cause}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
}

/// Threads that carry traffic, and the targets that they serve. Dropping it ends every connection.
pub struct Forwarder {}

impl Forwarder {
    /// Starts the threads. There are no targets yet.
    ///
    /// # Errors
    /// When the system has no thread or descriptor for it.
    pub fn start(_options: Options) -> Result<Self, crate::Error> {
        Ok(Self {})
    }

    /// Begins to listen for a target that is not open yet. Connections wait from now on.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn open(&self, _key: TargetKey, _listen: SocketAddr, _target: Target) -> Result<(), OpenError> {
        Ok(())
    }

    /// Changes an open target. Connections under way stay, sessions to endpoints that are gone end. False when it is
    /// not open.
    pub fn change(&self, _key: &TargetKey, _target: Target) -> bool {
        false
    }

    /// No longer listens. Connections under way stay, sessions end. False when it is not open.
    pub fn close(&self, _key: &TargetKey) -> bool {
        false
    }

    /// The state of every target, sorted by key.
    #[must_use]
    pub fn status(&self) -> Vec<TargetStatus> {
        Vec::new()
    }

    /// What all targets did.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures::default()
    }
}
