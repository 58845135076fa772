//! Virtual servers, their destinations, and what can be done to them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Scheduler;

/// What a virtual server answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frontend {
    /// Packets to an address and port. Port 0 stands for all ports that no other virtual server has.
    Address {
        /// Where clients send to.
        address: IpAddr,
        /// IP protocol number: TCP, UDP or SCTP.
        protocol: u8,
        /// To which port.
        port: u16,
    },
    /// Packets that bear a mark.
    Mark {
        /// Of IPv6, else IPv4.
        ipv6: bool,
        /// The mark, which is not 0.
        mark: u32,
    },
}

impl Frontend {
    /// Whether it is one of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv6(),
            Self::Mark { ipv6, .. } => *ipv6,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { address, protocol, port } => {
                write!(f, "{}/", SocketAddr::new(address, port))?;
                match i32::from(protocol) {
                    libc::IPPROTO_TCP => f.write_str("tcp"),
                    libc::IPPROTO_UDP => f.write_str("udp"),
                    libc::IPPROTO_SCTP => f.write_str("sctp"),
                    other => write!(f, "{other}"),
                }
            }
            Self::Mark { ipv6, mark } => write!(f, "IPv{} mark {mark}", if ipv6 { 6 } else { 4 }),
        }
    }
}

/// A virtual server: `struct ip_vs_service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it answers to, which identifies it.
    pub frontend: Frontend,
    /// How it picks a destination.
    pub scheduler: Scheduler,
    /// Whether it sends a client to where it was sent before.
    pub persistence: Option<Persistence>,
}

/// For how long a client is remembered, and who counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// After its last connection.
    pub seconds: u32,
    /// Addresses with as many leading bits in common are one client: 32 or, over IPv6, 128 tells all apart.
    pub prefix: u8,
}

/// Where connections are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A destination of a virtual server, as it is: `struct ip_vs_dest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where it is, which identifies it.
    pub target: Target,
    /// Its share; one of 0 gets no new connections.
    pub weight: u32,
    /// Connections that are established.
    pub active: u32,
    /// Connections that are not: that are being closed, or that have no state. Half of what is UDP's.
    pub inactive: u32,
    /// Clients that are remembered.
    pub persistent: u32,
    /// Whether packets to it have their address translated, which is how we forward. Others may have added one that
    /// forwards in another way.
    pub masquerades: bool,
    /// With as many connections it gets no further ones (`ipvsadm -x`); 0 is no limit, which is what we have.
    pub upper_threshold: u32,
    /// With fewer it gets them again (`ipvsadm -y`).
    pub lower_threshold: u32,
    /// Connections that it was ever sent. The kernel adds up this and what passed every two seconds.
    pub connections: u64,
    /// What went to it.
    pub incoming: Traffic,
    /// What it answered.
    pub outgoing: Traffic,
}

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of packets with their IP headers.
    pub bytes: u64,
}

/// A change. Destinations are such that packets to them have their address translated, without thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds a virtual server that must not exist.
    AddServer(Server),
    /// Gives one that exists another scheduler and persistence. Its destinations stay.
    SetServer(Server),
    /// Removes one that exists, with its destinations.
    RemoveServer(Frontend),
    /// Adds a destination that must not exist, with its weight.
    AddDestination(Frontend, Target, u32),
    /// Gives one that exists another weight.
    SetDestination(Frontend, Target, u32),
    /// Removes one that exists.
    RemoveDestination(Frontend, Target),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddServer(Server { frontend, scheduler, .. }) => {
                write!(f, "add virtual server {frontend} {scheduler}")
            }
            Self::SetServer(Server { frontend, scheduler, .. }) => {
                write!(f, "change virtual server {frontend} to {scheduler}")
            }
            Self::RemoveServer(frontend) => write!(f, "remove virtual server {frontend}"),
            Self::AddDestination(of, target, weight) => {
                write!(f, "add destination {target} of weight {weight} to virtual server {of}")
            }
            Self::SetDestination(of, target, weight) => {
                write!(f, "set weight {weight} of destination {target} of virtual server {of}")
            }
            Self::RemoveDestination(of, target) => {
                write!(f, "remove destination {target} from virtual server {of}")
            }
        }
    }
}

/// After how many seconds without packets a connection is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of TCP, established.
    pub tcp: u32,
    /// Of TCP, after a FIN.
    pub tcp_fin: u32,
    /// Of UDP.
    pub udp: u32,
}
