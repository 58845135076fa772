//! Addresses that somebody has on paper only: what has become of their owners.

use std::collections::HashMap;

use super::birth::{Boot, Fate};
use super::store::{Allocation, Folder, Owner, Store};
use crate::spec::{Attachment, Error};

/// What has become of whoever has an address.
pub(super) fn fate(folder: &Folder, boot: &Boot, allocation: &Allocation) -> Fate {
    match &allocation.owner {
        Owner::Attachment(attachment) => match folder.note(attachment) {
            Some(birth) => birth.fate(boot),
            None => fate_by_time(boot, allocation),
        },
        Owner::Container(_) => fate_by_time(boot, allocation),
        Owner::Unreadable => Fate::Unknown,
        // Whoever writes has the lock until all is there, and now we have it.
        Owner::Nobody => Fate::NamespaceGone,
    }
}

/// Of what the reference plugin wrote, only the time is known.
fn fate_by_time(boot: &Boot, allocation: &Allocation) -> Fate {
    let is_older = allocation.written().is_some_and(|written| boot.is_after(written));
    if is_older { Fate::OlderBoot } else { Fate::Unknown }
}

/// What is taken. When the folder is used for the first time since the kernel was started, what is from before is freed.
pub(super) fn taken(store: &Store, boot: &Boot) -> Result<Vec<Allocation>, Error> {
    let mut allocations = store.folder().allocations()?;
    let used = store.boot();
    if boot.id.is_empty() || used.as_deref() == Some(&boot.id) {
        return Ok(allocations);
    }
    // Who has never been here before does not know what those who were have written since the kernel was started.
    if used.is_some() {
        let fates: HashMap<_, _> = allocations
            .iter()
            .map(|allocation| (allocation.address, fate(store.folder(), boot, allocation)))
            .collect();
        release(store, &mut allocations, |allocation| {
            fates.get(&allocation.address) == Some(&Fate::OlderBoot)
        })?;
        let kept: Vec<_> = allocations
            .iter()
            .filter_map(|allocation| match &allocation.owner {
                Owner::Attachment(attachment) => Some(attachment.file_name()),
                _ => None,
            })
            .collect();
        store.keep_notes(|name| kept.iter().any(|kept| kept == name));
    }
    store.write_boot(&boot.id)?;
    Ok(allocations)
}

/// Frees the addresses of those that are gone, and says how many there were. Each owner is told of before.
pub(super) fn reclaim(
    store: &Store,
    boot: &Boot,
    taken: &mut Vec<Allocation>,
    gone: &dyn Fn(&Attachment),
) -> Result<usize, Error> {
    let before = taken.len();
    release(store, taken, |allocation| {
        let is_gone = fate(store.folder(), boot, allocation).is_gone();
        if let (true, Owner::Attachment(attachment)) = (is_gone, &allocation.owner) {
            gone(attachment);
        }
        is_gone
    })?;
    Ok(before - taken.len())
}

fn release(
    store: &Store,
    taken: &mut Vec<Allocation>,
    is_gone: impl Fn(&Allocation) -> bool,
) -> Result<(), Error> {
    let (gone, kept) = taken.drain(..).partition(is_gone);
    *taken = kept;
    for allocation in gone {
        store.release(&allocation)?;
        if let Owner::Attachment(attachment) = &allocation.owner {
            store.remove_note(attachment)?;
        }
    }
    Ok(())
}
