//! Bounds and times.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use kernel::socket::Origin;

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
    /// Threads that carry traffic; by default one for every two processors.
    pub workers: NonZeroUsize,
    /// How endpoints are chosen.
    pub balancing: Balancing,
    /// TCP connections under way at most; `None` for what the limit of file descriptors allows.
    pub max_connections: Option<NonZeroUsize>,
    /// The same for a single target; `None` for no bound of its own.
    pub max_connections_per_target: Option<NonZeroUsize>,
    /// UDP sessions at most, of which each thread has its share; `None` for what the limit of file descriptors allows.
    pub max_sessions: Option<NonZeroUsize>,
    /// Bytes that may wait to be taken by slow receivers, in all, outside of pipes. Beyond that, bytes stay in the
    /// kernel until they are taken.
    pub max_held_bytes: usize,
    /// After how long without a byte a TCP connection is closed.
    pub tcp_idle: Duration,
    /// The same once one side has closed.
    pub tcp_half_closed: Duration,
    /// After how long without a datagram a UDP session ends.
    pub udp_idle: Duration,
    /// How long each attempt to connect to an endpoint may take; as many attempts as there are times.
    pub connect_timeouts: Vec<Duration>,
    /// The mark of packets that bear a client's address ([`SourceAddress`](super::SourceAddress)), so that answers can be led back here.
    pub mark: Option<u32>,
    /// Whether a client whose address is to be borne is refused if it cannot be, instead of being carried under the node's
    /// address, which may reach whom the client may not.
    pub as_client_or_not_at_all: bool,
}

impl Options {
    /// How a connection presents itself as its client's: under the client's address, and under a port of the lower half.
    /// From its own port, which is of the upper half as a rule, the client may connect to the same endpoint by itself,
    /// and conntrack would take that for this connection.
    pub(super) fn origin_of(&self, client: SocketAddr) -> Origin {
        /// Linux takes ephemeral ports from here on (`net.ipv4.ip_local_port_range`).
        const EPHEMERAL: u16 = 32_768;
        /// Ports below are for root's programs.
        const UNPRIVILEGED: u16 = 1024;
        let port = client.port();
        let port = if port < EPHEMERAL { port } else { port - EPHEMERAL + UNPRIVILEGED };
        Origin { address: Some(SocketAddr::new(client.ip(), port)), mark: self.mark }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: half_of_the_processors(),
            balancing: Balancing::default(),
            max_connections: None,
            max_connections_per_target: None,
            max_sessions: None,
            max_held_bytes: 64 << 20,
            tcp_idle: Duration::from_secs(24 * 60 * 60),
            tcp_half_closed: Duration::from_secs(60 * 60),
            udp_idle: Duration::from_secs(30),
            connect_timeouts: [250, 500, 1000, 2000].map(Duration::from_millis).to_vec(),
            mark: None,
            as_client_or_not_at_all: false,
        }
    }
}

/// The other half is for whom traffic is carried: pods, and the kernel on their behalf. With a thread for each processor,
/// they would be in each other's way.
fn half_of_the_processors() -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors.div_ceil(2)).unwrap_or(NonZeroUsize::MIN)
}
