//! Reading our table, and how far what is there can be kept.

use endpoint_cache::Family;
use kernel::nft::{Nftables as Connection, Set, Table};

use super::found::Found;
use super::layout::{self, SetName, base_chains};
use super::ops::{InstalledChains, InstalledElements};
use crate::Error;

/// What one family's table was read to hold.
pub(crate) struct Installed {
    /// Whether the table exists and cannot be kept: a set or base chain of ours has another shape there.
    pub(crate) unusable: bool,
    /// Whether the table exists.
    pub(crate) exists: bool,
    /// Sets of ours that are there already.
    pub(crate) sets: Vec<SetName>,
    /// Sets that are none of ours.
    pub(crate) foreign_sets: Vec<String>,
    pub(crate) elements: InstalledElements,
    /// A set that is there and was not read, since writing it anew takes less.
    pub(crate) unread: Option<SetName>,
    pub(crate) chains: InstalledChains,
}

impl Installed {
    /// Whether the table can be brought to what it should be; else it is replaced whole, in one transaction.
    pub(crate) fn can_be_kept(&self) -> bool {
        self.exists && !self.unusable
    }
}

/// Reads our table of a family, but for the elements of `skip`.
pub(crate) fn read(
    connection: &mut Connection,
    family: Family,
    skip: Option<SetName>,
) -> Result<Installed, Error> {
    let table = layout::table(family);
    let mut installed = Installed {
        unusable: false,
        exists: connection.tables()?.contains(&table),
        sets: Vec::new(),
        foreign_sets: Vec::new(),
        elements: InstalledElements::new(),
        unread: None,
        chains: InstalledChains::new(),
    };
    if installed.exists {
        read_chains(connection, &table, &mut installed)?;
        read_sets(connection, &table, family, skip, &mut installed)?;
    }
    Ok(installed)
}

fn read_chains(connection: &mut Connection, table: &Table, installed: &mut Installed) -> Result<(), Error> {
    let base = base_chains();
    for chain in connection.chains(table)? {
        let expected = base.iter().find(|base| base.chain.name == chain.name);
        installed.unusable |= expected.and_then(|base| base.chain.hook) != chain.hook;
        installed.chains.insert(chain.name, Vec::new());
    }
    for rule in connection.rules(table)? {
        installed.chains.entry(rule.chain).or_default().push(rule.fingerprint);
    }
    Ok(())
}

fn read_sets(
    connection: &mut Connection,
    table: &Table,
    family: Family,
    skip: Option<SetName>,
    installed: &mut Installed,
) -> Result<(), Error> {
    for set in connection.sets(table)? {
        let Some(name) = SetName::ALL.into_iter().find(|name| name.as_str() == set.name) else {
            installed.foreign_sets.push(set.name);
            continue;
        };
        let definition: Set = name.definition(family);
        installed.unusable |= !set.is(&definition);
        installed.sets.push(name);
        if skip == Some(name) {
            installed.unread = skip;
        } else if !name.filled_by_rules() && !installed.unusable {
            installed.elements.insert(name, Found::new(connection.elements(table, name.as_str())?));
        }
    }
    Ok(())
}
