//! What the kernel holds of our table.

use std::collections::{HashMap, HashSet};

use kernel::nft::expr::{Expr, InstalledExpr, Match};
use kernel::nft::{Chain, Element, Fingerprint, Nftables as Connection, Table};

use super::content::Content;
use super::layout::chain;
use crate::enforcer::Error;

/// The first thing found that the table does not hold as it should, in words; `None` if all is well.
pub(super) fn difference(
    connection: &mut Connection,
    table: &Table,
    content: &Content,
) -> Result<Option<String>, Error> {
    if !connection.tables()?.contains(table) {
        return Ok(Some(format!("there is no table {table}")));
    }
    let found = match different_chain(connection, table, content)? {
        Some(chain) => Some(format!("chain {table} {chain} is not as it should be")),
        None => different_set(connection, table, content)?,
    };
    Ok(found)
}

fn different_chain(
    connection: &mut Connection,
    table: &Table,
    content: &Content,
) -> Result<Option<String>, Error> {
    let mut installed: HashMap<String, (Chain, Vec<Option<Fingerprint>>)> = HashMap::new();
    for chain in connection.chains(table)? {
        installed.insert(chain.name.clone(), (chain, Vec::new()));
    }
    for rule in connection.rules(table)? {
        if let Some((_, rules)) = installed.get_mut(&rule.chain) {
            rules.push(rule.fingerprint);
        }
    }
    for (chain, rules) in &content.chains {
        let same = installed.remove(&chain.name).is_some_and(|(found, fingerprints)| {
            found == *chain && fingerprints.into_iter().eq(rules.iter().map(|rule| Some(rule.fingerprint())))
        });
        if !same {
            return Ok(Some(chain.name.clone()));
        }
    }
    Ok(installed.into_keys().next())
}

fn different_set(
    connection: &mut Connection,
    table: &Table,
    content: &Content,
) -> Result<Option<String>, Error> {
    let mut installed = connection.sets(table)?;
    for (set, elements) in &content.sets {
        let Some(at) = installed.iter().position(|found| found.is(set)) else {
            return Ok(Some(format!("set {table} {} is missing, or another", set.name)));
        };
        installed.swap_remove(at);
        let found: HashSet<Element> = connection.elements(table, &set.name)?.into_iter().collect();
        let missing = elements.iter().filter(|element| !found.contains(element)).count();
        let extra = found.len() + missing - elements.len();
        if missing + extra > 0 {
            return Ok(Some(format!(
                "set {table} {} lacks {missing} elements and has {extra} others",
                set.name
            )));
        }
    }
    Ok(installed.first().map(|set| format!("set {table} {} is not ours", set.name)))
}

/// The mark that the table gives to connections that it allows; `None` if there is no such table, or it gives none.
pub(super) fn mark(connection: &mut Connection, table: &Table) -> Result<Option<u32>, Error> {
    if !connection.tables()?.contains(table) {
        return Ok(None);
    }
    let rules = connection.listed_rules(table, chain::ALLOWED)?;
    let set = |expression: &InstalledExpr| match expression {
        InstalledExpr::Known(Expr::Match(Match::Bitwise { xor, .. })) => {
            Some(u32::from_ne_bytes(xor.as_slice().try_into().ok()?))
        }
        _ => None,
    };
    Ok(rules.iter().flat_map(|rule| &rule.expressions).find_map(set))
}
