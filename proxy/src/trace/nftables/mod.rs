//! Where the nftables rules in the kernel take a packet.
//!
//! What is evaluated is what the kernel holds, expression by expression as the kernel does it, and not what the mode
//! believes to have written: `table` reads it, `rule` evaluates a rule, `chain` follows jumps, and `path` leads the
//! packet, a `traveller`, by the hooks. A random number makes as many ways as it has values; those that end
//! alike become one. `words` says what was met as `nft list` does.
//!
//! Of maps with an element for each service only single elements are asked for, so that it is quick with any number of
//! services.

mod chain;
mod path;
mod ranges;
mod registers;
mod rule;
mod table;
#[cfg(test)]
mod tests;
mod traveller;
mod words;

use anyhow::{Context as _, ensure};
use endpoint_cache::Family;
use kernel::Error;
use kernel::nft::Nftables;

use self::table::KernelTable;
use super::model::{Packet, Surroundings, Walk};

/// How often it is begun anew when the rules change meanwhile.
const TRIES: usize = 5;

/// What the tables of ours in the kernel do with a packet; `None` if there are none.
///
/// # Errors
/// When the kernel cannot be read.
pub(crate) fn walk(packet: &Packet, around: &dyn Surroundings) -> anyhow::Result<Option<Walk>> {
    let (source, destination) = (packet.source, packet.destination);
    ensure!(
        source.is_ipv4() == destination.is_ipv4(),
        "{source} cannot send to {destination}: one is IPv4, the other IPv6"
    );
    let family = if destination.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut connection = Nftables::open().context("cannot read nftables")?;
    let mut walk = None;
    for _ in 0..TRIES {
        let Some(tables) = present(family)? else { return Ok(None) };
        let before = connection.generation()?;
        walk = Some(path::walk(packet, around, tables)?);
        if connection.generation()? == before {
            return Ok(walk);
        }
    }
    if let Some(walk) = &mut walk {
        walk.unknown.push("the rules were changed while they were read: try again".to_owned());
    }
    Ok(walk)
}

/// Our tables of a family; `None` without that of the frontends.
fn present(family: Family) -> anyhow::Result<Option<Vec<KernelTable>>> {
    let mut connection = Nftables::open().context("cannot read nftables")?;
    let present = match connection.tables() {
        Err(Error::Unsupported { .. }) => return Ok(None),
        tables => tables?,
    };
    let frontends = modes::nftables::frontend_table(family);
    if !present.contains(&frontends) {
        return Ok(None);
    }
    let ours = [frontends, modes::userspace::nftables_table(family), policy::nftables::table(family)];
    let ours = ours.into_iter().filter(|table| present.contains(table));
    Ok(Some(ours.map(KernelTable::read).collect::<anyhow::Result<_>>()?))
}
