//! Which connections are followed.

use std::fmt;
use std::net::IpAddr;

use endpoint_cache::Protocol;
use kernel::conntrack::Tuple;
use kernel::nft::TraceFilter;

/// Connections as their clients see them; `None` matches any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Who connects.
    pub(crate) source: Option<IpAddr>,
    /// To where.
    pub(crate) destination: Option<IpAddr>,
    /// To which port.
    pub(crate) port: Option<u16>,
    /// By what.
    pub(crate) protocol: Option<Protocol>,
}

impl Filter {
    pub(super) fn matches(&self, tuple: &Tuple) -> bool {
        self.source.is_none_or(|source| source == tuple.source.ip())
            && self.destination.is_none_or(|destination| destination == tuple.destination.ip())
            && self.port.is_none_or(|port| port == tuple.destination.port())
            && self.protocol.is_none_or(|protocol| protocol.number() == tuple.protocol)
    }

    /// For the kernel.
    pub(super) fn of_packets(&self) -> TraceFilter {
        let Self { source, destination, port, protocol } = *self;
        TraceFilter { source, destination, port, protocol: protocol.map(Protocol::number) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(protocol) => write!(f, "{protocol} connections")?,
            None => f.write_str("connections")?,
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        match (self.destination, self.port) {
            (Some(IpAddr::V6(ip)), Some(port)) => write!(f, " to [{ip}]:{port}"),
            (Some(ip), Some(port)) => write!(f, " to {ip}:{port}"),
            (Some(ip), None) => write!(f, " to {ip}"),
            (None, Some(port)) => write!(f, " to port {port}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUPLE: fn() -> Tuple = || Tuple {
        protocol: 6,
        source: ([10, 0, 0, 3], 4000).into(),
        destination: ([172, 30, 0, 10], 80).into(),
    };

    #[test]
    fn every_field_counts() {
        let all = Filter {
            source: Some([10, 0, 0, 3].into()),
            destination: Some([172, 30, 0, 10].into()),
            port: Some(80),
            protocol: Some(Protocol::Tcp),
        };
        assert!(Filter::default().matches(&TUPLE()) && all.matches(&TUPLE()));
        let others = [
            Filter { source: Some([10, 0, 0, 4].into()), ..all },
            Filter { destination: Some([172, 30, 0, 11].into()), ..all },
            Filter { port: Some(81), ..all },
            Filter { protocol: Some(Protocol::Udp), ..all },
        ];
        assert!(others.iter().all(|other| !other.matches(&TUPLE())), "{others:?}");
    }

    #[test]
    fn it_is_told_in_words() {
        let to = |destination: &str| Some(destination.parse().unwrap());
        let filter =
            Filter { source: to("10.0.0.3"), destination: to("10.96.0.1"), port: Some(443), protocol: None };
        assert_eq!(filter.to_string(), "connections from 10.0.0.3 to 10.96.0.1:443");
        let filter =
            Filter { destination: to("fd00::1"), source: None, protocol: Some(Protocol::Udp), ..filter };
        assert_eq!(filter.to_string(), "udp connections to [fd00::1]:443");
        assert_eq!(Filter::default().to_string(), "connections");
    }
}
