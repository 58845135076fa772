//! Taking away what this mode has made, and kube-proxy's ipvs mode: they are the same.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::ipset::{Entry, Ipsets};
use kernel::ipvs::{Frontend, Ipvs, Operation};
use kernel::link::Links;

use super::edge::DEVICE;
use super::installed::Installed;
use super::sets::{self, SetName};
use crate::Error;

/// How long the kernel may take to let go of a set, and how often it is asked.
const LETTING_GO: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(20);

/// Removes virtual servers, addresses and sets, and nothing of others; says how many. The rules that use the sets must be
/// gone. What the kernel does not have cannot hold anything.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(exclude_cidrs: &[IpNet]) -> Result<usize, Error> {
    let (mut links, sets) = (Links::open()?, if_supported(Ipsets::open())?);
    let device = links.find(DEVICE)?;
    let addresses = links.addresses()?;
    let mut removed = 0;
    let Some(mut sets) = sets else { return Ok(removed) };
    if let Some(mut servers) = if_supported(Ipvs::open())? {
        let mut installed = Installed { excluded: exclude_cidrs.to_vec(), ..Installed::default() };
        for found in addresses {
            let is_ours = device.as_ref().is_some_and(|device| device.index == found.link);
            if is_ours { &mut installed.addresses } else { &mut installed.local }.insert(found.address);
        }
        installed.entries = entries(&mut sets)?;
        let listed = match servers.servers() {
            // In a user namespace nobody may, not even root, so nobody has made any either.
            Err(kernel::Error::Permission { .. }) if device.is_none() && installed.entries.is_empty() => {
                Vec::new()
            }
            listed => listed?,
        };
        let ours: Vec<Frontend> = listed.into_iter().map(|server| server.frontend).collect();
        let removals = ours.into_iter().filter(|frontend| installed.is_ours(*frontend));
        let removals: Vec<_> = removals.map(Operation::RemoveServer).collect();
        let refused = servers.run(&removals)?;
        if let Some(refusal) = refused.into_iter().find(|refusal| !refusal.missing()) {
            return Err(kernel::Error::from(refusal).into());
        }
        removed += removals.len();
    }
    if let Some(device) = device {
        links.remove(device.index)?;
        removed += 1;
    }
    for header in sets.headers()?.into_iter().filter(|header| sets::is_ours(&header.name)) {
        match destroy(&mut sets, &header.name) {
            Ok(()) => removed += 1,
            // Rules of others may look there; that is theirs to end.
            Err(error) => tracing::warn!("a set is left: {error}"),
        }
    }
    Ok(removed)
}

/// Rules of iptables-nft let go of a set some time after they are gone.
fn destroy(sets: &mut Ipsets, name: &str) -> Result<(), kernel::Error> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match sets.destroy(name) {
            Err(error) if error.is_busy() && Instant::now() < deadline => thread::sleep(MOMENT),
            result => return result,
        }
    }
}

/// What is in our sets, of both families.
fn entries(sets: &mut Ipsets) -> Result<HashMap<SetName, HashSet<Entry>>, Error> {
    let mut entries: HashMap<_, HashSet<_>> = HashMap::new();
    for header in sets.headers()? {
        if let Some((set, Family::V4 | Family::V6)) = SetName::parse(&header.name) {
            entries.entry(set).or_default().extend(sets.entries(&header.name)?);
        }
    }
    Ok(entries)
}

fn if_supported<T>(opened: Result<T, kernel::Error>) -> Result<Option<T>, Error> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(kernel::Error::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
