//! From what is asked to addresses, and the names of Services that are meant.

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;

use super::query::{Query, Whence, Whither};
use crate::view::frontend::port_name;
use crate::view::{PortView, ServiceView};

/// How many addresses are suggested.
const SUGGESTED: usize = 3;
/// How alike they must be, from 0 to 1.
const ALIKE: f64 = 0.6;

/// Which of a Service's addresses are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Which {
    #[default]
    ClusterIps,
    NodePort,
    External,
}

/// Where a connection is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
    /// The service port that is meant, if one is: `demo/web:http`.
    pub(super) meant: Option<String>,
}

/// Those that are most alike, if they are alike at all.
pub(super) fn nearest(candidates: impl Iterator<Item = (f64, String)>) -> Vec<String> {
    let mut alike: Vec<_> = candidates.filter(|(likeness, _)| *likeness >= ALIKE).collect();
    alike.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
    alike.into_iter().take(SUGGESTED).map(|(_, name)| name).collect()
}

/// Ports, as one may write them behind a Service's name.
pub(super) fn ports<'a>(ports: impl IntoIterator<Item = &'a PortView>) -> String {
    let one = |port: &PortView| {
        let protocol = port.protocol.to_ascii_lowercase();
        match port.name.as_str() {
            "" => format!("{}/{protocol}", port.port),
            name => format!("{}/{protocol} ({name})", port.port),
        }
    };
    let listed: Vec<_> = ports.into_iter().map(one).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// A port's protocol.
pub(super) fn protocol_of(port: &PortView) -> Protocol {
    match port.protocol.to_ascii_lowercase().as_str() {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// The addresses of a Service's port that are meant, in the family of who connects; empty if it has none such.
/// `own` are the node's, one of each family at most.
pub(super) fn addresses(
    service: &ServiceView,
    port: &PortView,
    which: Which,
    own: &[IpAddr],
    query: &Query,
) -> Vec<Target> {
    let all: Vec<IpAddr> = match which {
        Which::ClusterIps => service.cluster_ips.clone(),
        Which::External => [&service.external_ips[..], &service.load_balancer_ips].concat(),
        Which::NodePort => own.to_vec(),
    };
    let number = match which {
        Which::NodePort => port.node_port,
        Which::ClusterIps | Which::External => Some(port.port),
    };
    let of_family = |address: &IpAddr| match query.whence {
        Whence::Address(from) => from.is_ipv4() == address.is_ipv4(),
        Whence::Node | Whence::Outside => true,
    };
    let (protocol, meant) = (protocol_of(port), Some(port_name(service, port)));
    let targets = all.into_iter().filter(of_family).filter_map(|address| {
        Some(Target { to: SocketAddr::new(address, number?), protocol, meant: meant.clone() })
    });
    targets.collect()
}

/// The address that is asked about, if it is one.
pub(super) fn of_address(query: &Query) -> Option<Target> {
    match query.whither {
        Whither::At(to) => {
            let protocol = query.protocol.unwrap_or(Protocol::Tcp);
            Some(Target { to, protocol, meant: None })
        }
        Whither::Service { .. } => None,
    }
}
