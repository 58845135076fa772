//! Whether a back end has any tables, without a program of iptables being run.

use std::fs;

use super::{Backend, Table};
use crate::Error;
use crate::nft::{Family, Nftables};

impl Backend {
    /// Whether there may be rules of this back end: whether it has any of the tables of [`Table`].
    ///
    /// # Errors
    /// When the kernel cannot be read. A kernel that cannot have such tables has none.
    pub fn has_tables(self, ipv6: bool) -> Result<bool, Error> {
        match self {
            Self::Nft => has_nft_tables(if ipv6 { Family::Ip6 } else { Family::Ip }),
            Self::Legacy => has_legacy_tables(ipv6),
        }
    }
}

fn has_nft_tables(family: Family) -> Result<bool, Error> {
    let tables = match Nftables::open().and_then(|mut nftables| nftables.tables()) {
        Err(Error::Unsupported { .. }) => return Ok(false),
        tables => tables?,
    };
    Ok(tables.iter().any(|table| table.family == family && Table::named(&table.name).is_some()))
}

fn has_legacy_tables(ipv6: bool) -> Result<bool, Error> {
    let file = if ipv6 { "ip6_tables_names" } else { "ip_tables_names" };
    // Those of the network namespace that this very thread is in.
    let file = format!("/proc/thread-self/net/{file}");
    match fs::read_to_string(&file) {
        Ok(names) => Ok(names.lines().any(|name| Table::named(name).is_some())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(Error::io(format!("read {file}"), cause)),
    }
}
