//! Ports of the node that lead to pods (capability `portMappings`).
//!
//! One table of ours holds those of all pods: maps from protocol and port (and the node's address, if it is for one
//! only) to a pod's address and port. A pod's entries come in one transaction and go in one, however many there are.
//! Whoever edits holds a lock: two pods that want the same port must not both find it free.
//!
//! A connection to a port of the node is let alone but for its destination, with two exceptions, whose answers would not
//! come by the node: a pod that reaches itself, or another on its own link, by way of the node; and the node's own
//! 127.0.0.1. Those get the node's address as their source. For 127.0.0.1 to leave the node at all, the device to the pod
//! is told so (`route_localnet`); what comes in from anywhere to that address is dropped, so that nobody but the node
//! itself gains by it. ::1 cannot leave a node, whatever it is told: it is refused as if no pod had the port.

mod entries;
mod layout;
mod lock;

use std::collections::HashSet;
use std::net::IpAddr;

use kernel::conntrack::{Conntrack, Flow, FlowFilter};
use kernel::link::Links;
use kernel::nft::{Batch, Element, Nftables, listable};
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
    if wanted.port_mapper == PortMapper::Iptables {
        let why = "portMapper \"iptables\" is not supported: ports of the node take nf_tables".to_owned();
        return Err(Error::Bad(why));
    }
    if entries.iter().any(Entry::is_of_loopback) {
        let link = match &wanted.path {
            DataPath::Routed => &wanted.host_interface,
            DataPath::Bridge { name, .. } => name,
        };
        forwarding::set_all(link, &[(Family::V4, "route_localnet", "1")])?;
    }
    let _lock = Lock::take()?;
    let mut nft = Nftables::open()?;
    let mut batch = Batch::new(layout::table());
    layout::ensure(&mut nft, &mut batch)?;
    let owner = owner(wanted);
    for entry in &entries {
        let found = nft.element(&layout::table(), entry.map(), &entry.key())?;
        let is_ours =
            |found: &Element| found.data == entry.data() && found.comment.as_deref() == Some(&owner);
        if let Some(found) = found.filter(|found| !is_ours(found)) {
            return Err(entry.taken(&found));
        }
        let element = Element {
            key: entry.key(),
            data: entry.data(),
            comment: Some(owner.clone()),
            ..Element::default()
        };
        batch.add_elements(entry.map(), [&element]);
        batch.add_elements(entry.hairpin_set(), &entry.hairpins());
    }
    nft.commit(batch)?;
    forget_flows(&entries, |entry, flow, local| local.contains(&flow.destination) && !entry.answers(flow))
}

/// Has no port lead to a pod any longer. None that did is no error, nor are those of others touched.
pub(super) fn close(wanted: &Wanted) -> Result<(), Error> {
    // What could not be opened is not there.
    let Ok(entries) = Entry::all(wanted) else { return Ok(()) };
    if entries.is_empty() || wanted.port_mapper == PortMapper::Iptables {
        return Ok(());
    }
    let _lock = Lock::take()?;
    let mut nft = Nftables::open()?;
    let (owner, table) = (owner(wanted), layout::table());
    let mut ours = Vec::new();
    for entry in &entries {
        let found = nft.element(&table, entry.map(), &entry.key())?;
        let is_ours =
            |found: &Element| found.data == entry.data() && found.comment.as_deref() == Some(&owner);
        ours.extend(found.filter(is_ours).map(|found| (entry, found)));
    }
    let mut batch = Batch::new(table.clone());
    for (entry, found) in &ours {
        batch.delete_elements(entry.map(), [found]);
        batch.delete_elements(entry.hairpin_set(), &entry.hairpins());
    }
    if nft.commit(batch).is_err() {
        // Somebody has removed some of it: what leads to the pod must go.
        for (entry, found) in &ours {
            let mut batch = Batch::new(table.clone());
            batch.delete_elements(entry.map(), [found]);
            nft.commit(batch)?;
        }
    }
    let closed: Vec<Entry> = ours.into_iter().map(|(entry, _)| entry.clone()).collect();
    forget_flows(&closed, |entry, flow, _| entry.answers(flow))
}

/// What is missing of what [`open`] made, in words.
pub(super) fn missing(wanted: &Wanted) -> Result<Vec<String>, Error> {
    let entries = Entry::all(wanted)?;
    let mut missing = Vec::new();
    if entries.is_empty() {
        return Ok(missing);
    }
    let mut nft = Nftables::open()?;
    if !layout::is_there(&mut nft)? {
        missing.push(format!("the rules of table {} are not as they were made", layout::table()));
    }
    for entry in &entries {
        match nft.element(&layout::table(), entry.map(), &entry.key()) {
            Ok(Some(found)) if found.data == entry.data() => {}
            Ok(Some(found)) => missing.push(entry.taken(&found).to_string()),
            Ok(None) => missing.push(format!("port {entry} of the node does not lead to the pod")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

/// Removes the table with the ports of all pods, as when the node gives up its pod network. Says whether it was there.
///
/// # Errors
/// When the kernel refuses, or the lock cannot be had.
pub fn remove_all_ports() -> Result<bool, Error> {
    let _lock = Lock::take()?;
    let mut nft = Nftables::open()?;
    if !nft.tables()?.contains(&layout::table()) {
        return Ok(false);
    }
    let mut batch = Batch::new(layout::table());
    batch.delete_table();
    nft.commit(batch)?;
    Ok(true)
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
