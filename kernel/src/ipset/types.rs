//! What sets are and hold.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What a set's entries are made of, and how they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `hash:ip`
    HashIp,
    /// `hash:ip,port`
    HashIpPort,
    /// `hash:ip,port,ip`
    HashIpPortIp,
    /// `hash:ip,port,net`
    HashIpPortNet,
    /// `hash:net`
    HashNet,
    /// `bitmap:port`
    BitmapPort,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::HashIp,
        Self::HashIpPort,
        Self::HashIpPortIp,
        Self::HashIpPortNet,
        Self::HashNet,
        Self::BitmapPort,
    ];

    /// As ipset and the kernel name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashIpPort => "hash:ip,port",
            Self::HashIpPortIp => "hash:ip,port,ip",
            Self::HashIpPortNet => "hash:ip,port,net",
            Self::HashNet => "hash:net",
            Self::BitmapPort => "bitmap:port",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The newest revision whose attributes are as they are written here. A later one may ask for others.
    pub(super) fn known_revision(self) -> u8 {
        match self {
            Self::HashIp | Self::HashIpPortIp => 6,
            Self::HashIpPort | Self::HashNet => 7,
            Self::HashIpPortNet => 8,
            Self::BitmapPort => 3,
        }
    }

    /// What to tell the operator that the kernel lacks.
    pub(super) fn module(self) -> &'static str {
        match self {
            Self::HashIp => "sets of type hash:ip (module ip_set_hash_ip)",
            Self::HashIpPort => "sets of type hash:ip,port (module ip_set_hash_ipport)",
            Self::HashIpPortIp => "sets of type hash:ip,port,ip (module ip_set_hash_ipportip)",
            Self::HashIpPortNet => "sets of type hash:ip,port,net (module ip_set_hash_ipportnet)",
            Self::HashNet => "sets of type hash:net (module ip_set_hash_net)",
            Self::BitmapPort => "sets of type bitmap:port (module ip_set_bitmap_port)",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// At most 31 bytes.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether its addresses are IPv6. Means nothing to bitmaps.
    pub ipv6: bool,
    /// How many entries it may hold. Means nothing to bitmaps, which hold every port from 0 to 65535.
    pub max_entries: u32,
}

/// A set that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What it holds; `None` for a kind that is not used here.
    pub kind: Option<Kind>,
    /// Whether its addresses are IPv6.
    pub ipv6: bool,
    /// How many entries it holds.
    pub entries: u32,
    /// How many rules and other sets refer to it.
    pub references: u32,
    /// How many entries it may hold, if it has a limit.
    pub max_entries: Option<u32>,
}

impl Header {
    /// Whether this set is as another is to be made.
    #[must_use]
    pub fn is(&self, set: &Set) -> bool {
        let same_kind = (self.name.as_str(), self.kind) == (set.name.as_str(), Some(set.kind));
        let same_limits = (self.ipv6, self.max_entries) == (set.ipv6, Some(set.max_entries));
        same_kind && (set.kind == Kind::BitmapPort || same_limits)
    }
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// Of a `hash:ip`.
    Ip(IpAddr),
    /// Of a `hash:ip,port`.
    IpPort {
        /// First address.
        address: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Port.
        port: u16,
    },
    /// Of a `hash:ip,port,ip`.
    IpPortIp {
        /// First address.
        address: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Port.
        port: u16,
        /// Second address.
        other: IpAddr,
    },
    /// Of a `hash:ip,port,net`.
    IpPortNet {
        /// First address.
        address: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Port.
        port: u16,
        /// Network. The kernel clears the bits beyond the prefix.
        net: IpAddr,
        /// Length of its prefix, at least 1: the kernel refuses the network of all addresses, which takes two halves.
        prefix: u8,
    },
    /// Of a `hash:net`.
    Net {
        /// Network. The kernel clears the bits beyond the prefix.
        net: IpAddr,
        /// Length of its prefix, at least 1: the kernel refuses the network of all addresses, which takes two halves.
        prefix: u8,
    },
    /// Of a `bitmap:port`.
    Port(u16),
}

/// As `ipset save` writes it, but for protocols other than TCP, UDP and SCTP, which are numbers here.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::IpPort { address, protocol, port } => write!(f, "{address},{}:{port}", Protocol(protocol)),
            Self::IpPortIp { address, protocol, port, other } => {
                write!(f, "{address},{}:{port},{other}", Protocol(protocol))
            }
            Self::IpPortNet { address, protocol, port, net, prefix } => {
                write!(f, "{address},{}:{port},{}", Protocol(protocol), Net(net, prefix))
            }
            Self::Net { net, prefix } => Net(net, prefix).fmt(f),
            Self::Port(port) => write!(f, "{port}"),
        }
    }
}

/// A network, shown as an address if it is one.
struct Net(IpAddr, u8);

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(net, prefix) = self;
        let host = if net.is_ipv4() { 32 } else { 128 };
        if *prefix == host { write!(f, "{net}") } else { write!(f, "{net}/{prefix}") }
    }
}

/// An IP protocol number that is shown by its name.
struct Protocol(u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            6 => f.write_str("tcp"),
            17 => f.write_str("udp"),
            132 => f.write_str("sctp"),
            number => write!(f, "{number}"),
        }
    }
}

/// A change of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Name of the set.
    pub set: Arc<str>,
    /// Whether the entry is added, else it is removed.
    pub add: bool,
    /// The entry.
    pub entry: Entry,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, preposition) = if self.add { ("add", "to") } else { ("remove", "from") };
        write!(f, "{verb} {} {preposition} set {}", self.entry, self.set)
    }
}
