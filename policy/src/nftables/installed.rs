//! What the kernel holds of our table.

use std::collections::{HashMap, HashSet};

use kernel::nft::expr::{Expr, InstalledExpr, Match};
use kernel::nft::{Chain, Element, Fingerprint, Nftables as Connection, Table};

use super::content::Content;
use super::layout::chain;
use crate::enforcer::Error;

/// Whether the table holds just this.
pub(super) fn holds(connection: &mut Connection, table: &Table, content: &Content) -> Result<bool, Error> {
    Ok(has_chains(connection, table, content)? && has_sets(connection, table, content)?)
}

fn has_chains(connection: &mut Connection, table: &Table, content: &Content) -> Result<bool, Error> {
    let mut installed: HashMap<String, (Chain, Vec<Option<Fingerprint>>)> = HashMap::new();
    for chain in connection.chains(table)? {
        installed.insert(chain.name.clone(), (chain, Vec::new()));
    }
    for rule in connection.rules(table)? {
        if let Some((_, rules)) = installed.get_mut(&rule.chain) {
            rules.push(rule.fingerprint);
        }
    }
    let same = |(chain, rules): &(Chain, Vec<kernel::nft::Rule>)| {
        installed.get(&chain.name).is_some_and(|(found, fingerprints)| {
            found == chain
                && fingerprints.iter().copied().eq(rules.iter().map(|rule| Some(rule.fingerprint())))
        })
    };
    Ok(installed.len() == content.chains.len() && content.chains.iter().all(same))
}

fn has_sets(connection: &mut Connection, table: &Table, content: &Content) -> Result<bool, Error> {
    let installed = connection.sets(table)?;
    if installed.len() != content.sets.len() {
        return Ok(false);
    }
    for (set, elements) in &content.sets {
        if !installed.iter().any(|found| found.is(set)) {
            return Ok(false);
        }
        let found: HashSet<Element> = connection.elements(table, &set.name)?.into_iter().collect();
        if found.len() != elements.len() || !elements.iter().all(|element| found.contains(element)) {
            return Ok(false);
        }
    }
    Ok(true)
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
