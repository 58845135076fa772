//! The connections that this node tracks now.

use std::collections::BTreeSet;

use anyhow::Context;
use endpoint_cache::Protocol;
use kernel::conntrack::{Conntrack, Flow, FlowFilter};
use policy::Connection;

/// All that are under way: who began them, and who answers; each pair of ends and port once.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn seen() -> anyhow::Result<Vec<Connection>> {
    let mut conntrack = Conntrack::open().context("cannot read conntrack")?;
    let mut seen = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for ipv6 in [false, true] {
            let flows = conntrack.list(&FlowFilter::any(ipv6, protocol.number()));
            let flows = flows.context("cannot read conntrack")?;
            seen.extend(flows.iter().filter(|flow| !flow.closed).map(|flow| of(flow, protocol)));
        }
    }
    let mut known = BTreeSet::new();
    seen.retain(|of: &Connection| known.insert((of.protocol, of.source, of.destination, of.port)));
    seen.sort_unstable_by_key(|of| (of.protocol, of.source, of.destination, of.port));
    Ok(seen)
}

/// Policies see who began it, before any masquerading, and whom Services lead it to.
fn of(flow: &Flow, protocol: Protocol) -> Connection {
    Connection { source: flow.source, destination: flow.replier, protocol, port: flow.replier_port }
}
