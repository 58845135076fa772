//! Where traffic comes in and what serves it, as the forwarder is told and as it tells.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::{Endpoint, Family, ServicePortName, TrafficPolicy};

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

/// Whether an endpoint is to see this client's address.
pub type KeepsClient = dyn Fn(IpAddr, &Endpoint) -> bool + Send + Sync;

/// From which address endpoints are connected to.
#[derive(Clone)]
pub enum SourceAddress {
    /// The node's.
    Node,
    /// The client's, where this says so; else the node's. A client that is the endpoint itself always appears under
    /// the node's address. Called by the threads that carry traffic, so it should be quick.
    Client(Arc<KeepsClient>),
}

/// What a target forwards to, and how.
#[derive(Clone)]
pub struct Target {
    /// Where to spread what arrives. If empty, connections are refused.
    pub endpoints: Arc<[Endpoint]>,
    /// Endpoints that keep the sessions they have, though nothing new goes there unless they are among `endpoints`.
    pub serving: Arc<[Endpoint]>,
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
