//! The verbs of our own IPAM.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::birth::{Birth, Boot};
use super::leaked;
use super::ranges::{self, RangeSet};
use super::resolver;
use super::store::{Allocation, Folder, Owner, Store};
use crate::fault;
use crate::network::Published;
use crate::spec::{Address, Attachment, Code, Error, Outcome, OwnIpam};

/// Owners that a message names.
const MOST_NAMED: usize = 3;

/// A request for addresses.
pub(crate) struct Lease<'a> {
    /// The network's name.
    pub network: &'a str,
    /// How they are chosen.
    pub ipam: &'a OwnIpam,
    /// What the daemon tells of the node.
    pub published: Option<&'a Published>,
    /// Who wants them.
    pub attachment: &'a Attachment,
    /// Where it comes from.
    pub birth: &'a Birth,
    /// Addresses that are asked for.
    pub requested: &'a [IpAddr],
    /// Hears of attachments that are gone, before somebody else gets their addresses.
    pub gone: &'a dyn Fn(&Attachment),
}

/// The ranges to take addresses from; there is one at least.
fn sets(ipam: &OwnIpam, published: Option<&Published>) -> Result<Vec<RangeSet>, Error> {
    let sets = ranges::sets(&ipam.ranges, published)?;
    if sets.is_empty() {
        let why = "ipam has no ranges, and the daemon has not told of this node's";
        return Err(Error::new(Code::TRY_AGAIN_LATER, "the node's pod network is not ready").with(why));
    }
    Ok(sets)
}

/// Gives an address of each set of ranges to an attachment, or none at all.
pub(crate) fn add(lease: &Lease<'_>) -> Result<Outcome, Error> {
    let sets = sets(lease.ipam, lease.published)?;
    let requested = requested(&sets, lease.requested)?;
    let dns = lease.ipam.resolv_conf.as_deref().map(resolver::read).transpose()?.unwrap_or_default();

    let store = Store::open(&lease.ipam.data_dir, lease.network)?;
    fault::at("ipam-locked");
    let boot = Boot::current();
    let mut taken = leaked::taken(&store, &boot)?;
    if let Some(allocation) = taken.iter().find(|allocation| allocation.owner.is(lease.attachment)) {
        let why = format!("{} has {} already", lease.attachment, allocation.address);
        return Err(Error::new(Code::EXISTS, "the attachment has an address").with(why));
    }
    let chosen = match choose(&store, &sets, &requested, &taken) {
        Ok(chosen) => chosen,
        Err(error) => match leaked::reclaim(&store, &boot, &mut taken, lease.gone)? {
            0 => return Err(error),
            _ => choose(&store, &sets, &requested, &taken)?,
        },
    };
    write_down(&store, lease, &chosen)?;
    let ips = chosen.into_iter().map(|(address, gateway)| Address { address, gateway, interface: None });
    Ok(Outcome { ips: ips.collect(), routes: lease.ipam.routes.clone(), dns, ..Outcome::default() })
}

/// The address asked for from each set, if one is.
fn requested(sets: &[RangeSet], asked: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, Error> {
    let mut requested = vec![None; sets.len()];
    for address in asked {
        let refused =
            |why: String| Err(Error::new(Code::ADDRESS, format!("{address} cannot be had")).with(why));
        let found = sets.iter().enumerate().find_map(|(at, set)| Some((at, set.range_of(*address)?)));
        let Some((at, range)) = found else {
            let all: Vec<_> = sets.iter().map(ToString::to_string).collect();
            return refused(format!("it is in none of the ranges: {}", all.join("; ")));
        };
        if *address == range.gateway {
            return refused(format!("it is the gateway of {}", range.subnet));
        }
        match requested[at] {
            Some(other) if other != *address => {
                return refused(format!("{other} is asked for from the same range set"));
            }
            _ => requested[at] = Some(*address),
        }
    }
    Ok(requested)
}

/// Chooses an address from each set. Nothing is written yet.
fn choose(
    store: &Store,
    sets: &[RangeSet],
    requested: &[Option<IpAddr>],
    taken: &[Allocation],
) -> Result<Vec<(IpNet, Option<IpAddr>)>, Error> {
    // A file of nobody's is overwritten.
    let mut owned: Vec<_> = taken.iter().filter(|allocation| allocation.owner != Owner::Nobody).collect();
    owned.sort_by_key(|allocation| allocation.address);
    let owner = |address: IpAddr| {
        let found = owned.binary_search_by_key(&address, |allocation| allocation.address).ok();
        found.map(|at| &owned[at].owner)
    };
    let mut chosen = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        let found = match requested[at] {
            Some(address) => match owner(address) {
                Some(owner) => {
                    let error = Error::new(Code::ADDRESS, format!("{address} cannot be had"));
                    return Err(error.with(format!("{owner} has it")));
                }
                None => set.range_of(address).map(|range| (address, range)),
            },
            None => set.next(store.last(at), |address| owner(address).is_none()),
        };
        let (address, range) = found.ok_or_else(|| exhausted(at, set, &owned))?;
        let net = IpNet::new(address, range.subnet.prefix_len());
        let net = net.map_err(|error| Error::new(Code::ADDRESS, error.to_string()))?;
        chosen.push((net, Some(range.gateway)));
    }
    Ok(chosen)
}

/// No address is left: says of which range, and who has them.
fn exhausted(at: usize, set: &RangeSet, owned: &[&Allocation]) -> Error {
    let of_set: Vec<_> =
        owned.iter().filter(|allocation| set.range_of(allocation.address).is_some()).collect();
    let named: Vec<_> = of_set
        .iter()
        .take(MOST_NAMED)
        .map(|allocation| format!("{} by {}", allocation.address, allocation.owner))
        .collect();
    let more = match of_set.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let taken = format!("{} of {} are taken: {}{more}", of_set.len(), set.size(), named.join(", "));
    Error::new(Code::ADDRESS, "no address is left")
        .with(format!("range set {at} ({set}): {taken}; `pointsman ipam doctor` tells which are in use"))
}

/// Writes the chosen addresses down. If one cannot be, none is.
fn write_down(store: &Store, lease: &Lease<'_>, chosen: &[(IpNet, Option<IpAddr>)]) -> Result<(), Error> {
    store.write_note(lease.attachment, lease.birth)?;
    fault::at("ipam-noted");
    for (at, (address, _)) in chosen.iter().enumerate() {
        if let Err(error) = store.reserve(address.addr(), at, lease.attachment) {
            for (earlier, _) in &chosen[..at] {
                store.take_back(earlier.addr());
            }
            let _ = store.remove_note(lease.attachment);
            return Err(error);
        }
        fault::at(if at == 0 { "ipam-address-1" } else { "ipam-address-2" });
    }
    Ok(())
}

/// Gives back what an attachment has, if it has anything.
pub(crate) fn del(data_dir: &Path, network: &str, attachment: &Attachment) -> Result<(), Error> {
    let Some(store) = Store::open_existing(data_dir, network)? else { return Ok(()) };
    let allocations = store.folder().allocations()?;
    let exactly = |allocation: &&Allocation| allocation.owner == Owner::Attachment(attachment.clone());
    let mut own: Vec<_> = allocations.iter().filter(exactly).collect();
    // As the reference does: what an old version wrote is looked at if there is nothing else.
    if own.is_empty() {
        own = allocations.iter().filter(|allocation| allocation.owner.is(attachment)).collect();
    }
    for allocation in own {
        store.release(allocation)?;
    }
    store.sweep()?;
    store.remove_note(attachment)
}

/// Whether an attachment has the addresses that it should.
pub(crate) fn check(
    data_dir: &Path,
    network: &str,
    attachment: &Attachment,
    expected: &[IpAddr],
) -> Result<(), Error> {
    let allocations = Folder::of(data_dir, network).allocations()?;
    let lost = |why: String| Err(Error::new(Code::NOT_AS_MADE, "an address is not reserved").with(why));
    if !allocations.iter().any(|allocation| allocation.owner.is(attachment)) {
        return lost(format!("{attachment} has none in network {network}"));
    }
    for address in expected {
        match allocations.iter().find(|allocation| allocation.address == *address) {
            None => return lost(format!("{address} of {attachment} is free in network {network}")),
            Some(allocation) if !allocation.owner.is(attachment) => {
                return lost(format!("{address} of {attachment} belongs to {}", allocation.owner));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Frees what belongs to none of the attachments that are valid.
pub(crate) fn gc(data_dir: &Path, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let Some(store) = Store::open_existing(data_dir, network)? else { return Ok(()) };
    let is_garbage =
        |owner: &Owner| *owner != Owner::Unreadable && !valid.iter().any(|valid| owner.is(valid));
    let allocations = store.folder().allocations()?;
    for allocation in allocations.iter().filter(|allocation| is_garbage(&allocation.owner)) {
        store.release(allocation)?;
    }
    let kept: Vec<_> = valid.iter().map(Attachment::file_name).collect();
    store.keep_notes(|name| kept.iter().any(|kept| kept == name));
    Ok(())
}

/// Whether another attachment would get its addresses.
pub(crate) fn status(network: &str, ipam: &OwnIpam, published: Option<&Published>) -> Result<(), Error> {
    let not_available = |error: Error| Error { code: Code::NOT_AVAILABLE, ..error };
    let sets = sets(ipam, published).map_err(|error| match error.code {
        Code::TRY_AGAIN_LATER => not_available(error),
        _ => error,
    })?;
    let Some(store) = Store::open_existing(&ipam.data_dir, network)? else { return Ok(()) };
    let boot = Boot::current();
    let mut taken = store.folder().allocations()?;
    let nothing = vec![None; sets.len()];
    if choose(&store, &sets, &nothing, &taken).is_ok() {
        return Ok(());
    }
    // Nothing is freed here, as nothing was asked for; it would be for the next `ADD`.
    taken.retain(|allocation| !leaked::fate(store.folder(), &boot, allocation).is_gone());
    choose(&store, &sets, &nothing, &taken).map(|_| ()).map_err(not_available)
}

#[cfg(test)]
mod tests;
