//! `pointsman trace --live`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use endpoint_cache::Protocol;

use super::duration;
use crate::BadUsage;
use crate::trace::{Bounds, Filter};

/// What only `pointsman trace --live` is told.
#[derive(Clone, Copy, Debug, Args)]
pub struct LiveFlags {
    /// Follow real packets of connections that are made from now on: of those that match, or of all.
    #[arg(long)]
    pub live: bool,

    /// End after so many connections.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "live")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,

    /// End after so long.
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = duration, requires = "live")]
    pub time: Duration,
}

/// Where connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    address: IpAddr,
    port: Option<u16>,
    protocol: Option<Protocol>,
}

impl LiveFlags {
    /// When it ends.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { connections: usize::try_from(self.count).unwrap_or(usize::MAX), time: self.time }
    }
}

/// Which connections are followed, from what the command line says of them.
///
/// # Errors
/// When it is no address.
pub(crate) fn filter(source: Option<&str>, destination: Option<&str>) -> Result<Filter, BadUsage> {
    let source = source.map(|text| {
        text.parse().map_err(|_| {
            BadUsage(format!("--source {text:?} is no address: --live takes one, or none for all"))
        })
    });
    let target = destination.map(target).transpose().map_err(BadUsage)?;
    Ok(Filter {
        source: source.transpose()?,
        destination: target.map(|target| target.address),
        port: target.and_then(|target| target.port),
        protocol: target.and_then(|target| target.protocol),
    })
}

fn target(text: &str) -> Result<Target, String> {
    let (place, protocol) = match text.rsplit_once('/') {
        Some((place, word)) => (place, Some(protocol(word)?)),
        None => (text, None),
    };
    if let Ok(address) = place.parse() {
        return Ok(Target { address, port: None, protocol });
    }
    let place: Result<SocketAddr, _> = place.parse();
    let place = place.map_err(|_| {
        format!("--live takes an address such as 10.96.0.1:443, [fd00::1]:53/udp or 10.96.0.1, not {text:?}")
    })?;
    Ok(Target { address: place.ip(), port: Some(place.port()), protocol })
}

fn protocol(word: &str) -> Result<Protocol, String> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let found = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(word));
    found.ok_or_else(|| format!("{word:?} is no protocol: write tcp, udp or sctp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_with_or_without_a_port_and_protocol() {
        let read = |text: &str| target(text).map(|it| (it.address.to_string(), it.port, it.protocol));
        assert_eq!(read("10.96.0.1:443").unwrap(), ("10.96.0.1".to_owned(), Some(443), None));
        assert_eq!(read("[fd00::1]:53/UDP").unwrap(), ("fd00::1".to_owned(), Some(53), Some(Protocol::Udp)));
        assert_eq!(read("fd00::1").unwrap(), ("fd00::1".to_owned(), None, None));
        assert!(read("web:80").unwrap_err().contains("10.96.0.1:443"));
        assert!(read("10.0.0.1:80/icmp").unwrap_err().contains("tcp, udp or sctp"));
    }
}
