//! Connections that are there already: their packets go where the first one went, whatever rules say now.

use std::net::{IpAddr, SocketAddr};

use kernel::conntrack::{Conntrack, Flow, FlowFilter};

use super::model::Packet;

/// How many are told.
const MOST: usize = 1000;

/// A connection, or a flow of datagrams, that the kernel tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Existing {
    /// Port that the client speaks from.
    pub(super) source_port: u16,
    /// Who answers it.
    pub(super) endpoint: SocketAddr,
}

/// Those of a client to a destination which go somewhere else than they are addressed to; a thousand at most.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn existing(packet: &Packet) -> Result<Vec<Existing>, kernel::Error> {
    let (destination, port) = (packet.destination.ip(), packet.destination.port());
    let any = FlowFilter::any(destination.is_ipv6(), packet.protocol.number());
    let filter = FlowFilter { destination: Some(destination), destination_port: Some(port), ..any };
    let flows = Conntrack::open()?.list(&filter)?;
    let mut existing: Vec<_> = flows.iter().filter_map(|flow| of(flow, packet.source)).collect();
    existing.sort_unstable();
    existing.truncate(MOST);
    Ok(existing)
}

fn of(flow: &Flow, source: IpAddr) -> Option<Existing> {
    let endpoint = SocketAddr::new(flow.replier, flow.replier_port);
    let is_translated = (flow.replier, flow.replier_port) != (flow.destination, flow.destination_port);
    (flow.source == source && is_translated && !flow.closed)
        .then_some(Existing { source_port: flow.source_port, endpoint })
}
