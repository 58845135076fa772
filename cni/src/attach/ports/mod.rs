//! Ports of the node that lead to pods (capability `portMappings`).
//!
//! One table of ours holds those of all pods: maps from protocol and port (and the node's address, if it is for one
//! only) to a pod's address and port. A pod's entries come in one transaction and go in one, however many there are.
//! Whoever edits holds a lock: two pods that want the same port must not both find it free.
//!
//! On a node that has iptables only, two chains of ours hold the same: what can be done in one place, the map and the
//! transaction, is done by rules there, and whoever edits reads the table first.
//!
//! A connection to a port of the node is let alone but for its destination, with two exceptions, whose answers would not
//! come by the node: a pod that reaches itself, or another on its own link, by way of the node; and the node's own
//! 127.0.0.1. Those get the node's address as their source. For 127.0.0.1 to leave the node at all, the device to the pod
//! is told so (`route_localnet`); what comes in from anywhere to that address is dropped, so that nobody but the node
//! itself gains by it. ::1 cannot leave a node, whatever it is told: it is refused as if no pod had the port.

mod entries;
mod iptables;
mod layout;
mod lock;
mod nftables;

use std::collections::HashSet;
use std::net::IpAddr;

use kernel::conntrack::{Conntrack, Flow, FlowFilter};
use kernel::link::Links;
use kernel::nft::{Nftables, listable};
use kernel::route::Family;

use super::{DataPath, Error, PortMapper, Wanted, forwarding};
use entries::{Entry, UDP};
use lock::Lock;

/// Has ports of the node lead to a pod.
pub(super) fn open(wanted: &Wanted) -> Result<(), Error> {
    let entries = Entry::all(wanted)?;
    if entries.is_empty() {
        return Ok(());
    }
    if entries.iter().any(Entry::is_of_loopback) {
        let link = match &wanted.path {
            DataPath::Routed => &wanted.host_interface,
            DataPath::Bridge { name, .. } => name,
        };
        forwarding::set_all(link, &[(Family::V4, "route_localnet", "1")])?;
    }
    let _lock = Lock::take()?;
    if by_nftables(wanted)? {
        nftables::open(&entries, &owner(wanted))?;
    } else {
        iptables::open(&entries, &owner(wanted))?;
    }
    forget_flows(&entries, |entry, flow, local| local.contains(&flow.destination) && !entry.answers(flow))
}

/// Has no port lead to a pod any longer. None that did is no error, nor are those of others touched.
pub(super) fn close(wanted: &Wanted) -> Result<(), Error> {
    // What could not be opened is not there.
    let Ok(entries) = Entry::all(wanted) else { return Ok(()) };
    if entries.is_empty() {
        return Ok(());
    }
    let _lock = Lock::take()?;
    let closed = if by_nftables(wanted)? {
        nftables::close(&entries, &owner(wanted))?
    } else {
        iptables::close(&entries, &owner(wanted))?
    };
    forget_flows(&closed, |entry, flow, _| entry.answers(flow))
}

/// What is missing of what [`open`] made, in words.
pub(super) fn missing(wanted: &Wanted) -> Result<Vec<String>, Error> {
    let entries = Entry::all(wanted)?;
    if entries.is_empty() {
        Ok(Vec::new())
    } else if by_nftables(wanted)? {
        nftables::missing(&entries)
    } else {
        iptables::missing(&entries, &owner(wanted))
    }
}

/// Removes what holds the ports of all pods, as when the node gives up its pod network. Says whether it was there.
///
/// # Errors
/// When the kernel refuses, or the lock cannot be had.
pub fn remove_all_ports() -> Result<bool, Error> {
    let _lock = Lock::take()?;
    let in_nftables = has_nftables()? && nftables::remove_all()?;
    Ok(iptables::remove_all()? || in_nftables)
}

fn by_nftables(wanted: &Wanted) -> Result<bool, Error> {
    match wanted.port_mapper {
        PortMapper::Auto => has_nftables(),
        PortMapper::Nftables => Ok(true),
        PortMapper::Iptables => Ok(false),
    }
}

fn has_nftables() -> Result<bool, Error> {
    match Nftables::open().and_then(|mut nft| nft.generation()) {
        Ok(_) => Ok(true),
        Err(kernel::Error::Unsupported { .. }) => Ok(false),
        // The subsystem is unknown.
        Err(kernel::Error::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whose entries they are, as it is kept beside each.
fn owner(wanted: &Wanted) -> String {
    listable(&format!("{}/{}", wanted.container, wanted.interface))
}

/// Has the kernel forget flows over UDP that go where they went before the ports changed: they have no end, so they
/// would go there for ever.
fn forget_flows(
    entries: &[Entry],
    is_stale: impl Fn(&Entry, &Flow, &HashSet<IpAddr>) -> bool,
) -> Result<(), Error> {
    let mut entries = entries.iter().filter(|entry| entry.protocol == UDP).peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let addresses = Links::open()?.addresses()?;
    let local: HashSet<IpAddr> = addresses.into_iter().map(|address| address.address).collect();
    let mut conntrack = Conntrack::open()?;
    for entry in entries {
        let to_port = FlowFilter {
            destination: entry.host_ip,
            destination_port: Some(entry.host_port),
            ..FlowFilter::any(entry.pod.is_ipv6(), UDP)
        };
        let mut flows = conntrack.list(&to_port)?;
        flows.retain(|flow| is_stale(entry, flow, &local));
        conntrack.delete(&flows)?;
    }
    Ok(())
}
