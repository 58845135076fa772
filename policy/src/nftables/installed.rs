//! What the kernel holds of our table.

use kernel::nft::expr::{Expr, InstalledExpr, Match};
use kernel::nft::{Nftables as Connection, Table};

use super::layout::chain;
use crate::enforcer::Error;

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
