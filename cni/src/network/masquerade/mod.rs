//! What pods send out of the cluster gets the node's address, by nftables or iptables.
//!
//! As ip-masq-agent has it: only what leaves this node, not for the cluster's own ranges, and not to the nodes.

mod iptables;
mod nftables;

use std::net::IpAddr;

use endpoint_cache::Family;
use kernel::Error;
use kernel::iptables::{Backend, choose};
use kernel::nft::{Batch, Nftables};

use super::desired::Masquerade;
pub(super) use nftables::table;

/// What masquerades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masquerader {
    /// nftables if the kernel has it, else iptables.
    #[default]
    Auto,
    /// Tables of our own, `pointsman-masq`.
    Nftables,
    /// A chain of our own, `PM-MASQUERADE`, of whichever iptables the node uses. It is written whole whenever a node comes or
    /// goes, and others' changes to it are not heard of.
    Iptables,
}

/// The way to it.
pub(super) enum Tool {
    Nftables(Nftables),
    Iptables(Backend),
}

impl Tool {
    pub(super) fn open(masquerader: Masquerader) -> Result<Self, Error> {
        let nftables = || {
            let mut connection = Nftables::open()?;
            connection.tables().map(|_| Self::Nftables(connection))
        };
        let iptables = || choose().map(Self::Iptables);
        match masquerader {
            Masquerader::Auto => nftables().or_else(|error| iptables().map_err(|_| error)),
            Masquerader::Nftables => nftables(),
            Masquerader::Iptables => iptables(),
        }
    }

    /// Brings the rules to what is wanted, whatever there is; returns how much was written.
    pub(super) fn resync(&mut self, wanted: Option<&Masquerade>) -> Result<usize, Error> {
        match self {
            Self::Nftables(connection) => nftables::resync(connection, wanted),
            Self::Iptables(backend) => iptables::resync(*backend, wanted),
        }
    }

    /// Adds and removes nodes; returns how much was written.
    pub(super) fn change(&mut self, wanted: &Masquerade, nodes: &[(IpAddr, bool)]) -> Result<usize, Error> {
        match self {
            Self::Nftables(connection) => nftables::change(connection, wanted, nodes),
            Self::Iptables(backend) => iptables::resync(*backend, Some(wanted)),
        }
    }
}

/// Removes all rules, whatever made them. True if there were some.
pub(super) fn cleanup() -> Result<bool, Error> {
    let mut found = false;
    if let Ok(mut connection) = Nftables::open()
        && let Ok(tables) = connection.tables()
    {
        for table in Family::BOTH.map(table).into_iter().filter(|table| tables.contains(table)) {
            let mut batch = Batch::new(table);
            batch.delete_table();
            connection.commit(batch)?;
            found = true;
        }
    }
    // A node without iptables has nothing there.
    if let Ok(backend) = choose() {
        found |= iptables::cleanup(backend)?;
    }
    Ok(found)
}
