//! Ports in a table of ours.

use kernel::nft::{Batch, Element, Nftables};

use super::entries::Entry;
use super::layout;
use crate::attach::Error;

/// Has ports lead to their pod, in one transaction.
pub(super) fn open(entries: &[Entry], owner: &str) -> Result<(), Error> {
    let mut nft = Nftables::open()?;
    let mut batch = Batch::new(layout::table());
    layout::ensure(&mut nft, &mut batch)?;
    for entry in entries {
        let found = nft.element(&layout::table(), entry.map(), &entry.key())?;
        if let Some(found) = found.filter(|found| !is_of(entry, found, owner)) {
            return Err(entry.taken(&found));
        }
        let element = Element {
            key: entry.key(),
            data: entry.data(),
            comment: Some(owner.to_owned()),
            ..Element::default()
        };
        batch.add_elements(entry.map(), [&element]);
        batch.add_elements(entry.hairpin_set(), &entry.hairpins());
    }
    Ok(nft.commit(batch)?)
}

/// Has those lead nowhere that led to their pod, and returns them.
pub(super) fn close(entries: &[Entry], owner: &str) -> Result<Vec<Entry>, Error> {
    let (mut nft, table) = (Nftables::open()?, layout::table());
    let mut ours = Vec::new();
    for entry in entries {
        let found = nft.element(&table, entry.map(), &entry.key())?;
        ours.extend(found.filter(|found| is_of(entry, found, owner)).map(|found| (entry, found)));
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
    Ok(ours.into_iter().map(|(entry, _)| entry.clone()).collect())
}

fn is_of(entry: &Entry, found: &Element, owner: &str) -> bool {
    found.data == entry.data() && found.comment.as_deref() == Some(owner)
}

/// What is missing, in words.
pub(super) fn missing(entries: &[Entry]) -> Result<Vec<String>, Error> {
    let (mut nft, mut missing) = (Nftables::open()?, Vec::new());
    if !layout::is_there(&mut nft)? {
        missing.push(format!("the rules of table {} are not as they were made", layout::table()));
    }
    for entry in entries {
        match nft.element(&layout::table(), entry.map(), &entry.key())? {
            Some(found) if found.data == entry.data() => {}
            Some(found) => missing.push(entry.taken(&found).to_string()),
            None => missing.push(format!("port {entry} of the node does not lead to the pod")),
        }
    }
    Ok(missing)
}

/// Removes the table. Says whether it was there.
pub(super) fn remove_all() -> Result<bool, Error> {
    let mut nft = Nftables::open()?;
    if !nft.tables()?.contains(&layout::table()) {
        return Ok(false);
    }
    let mut batch = Batch::new(layout::table());
    batch.delete_table();
    nft.commit(batch)?;
    Ok(true)
}
