//! The ways of enforcing that are measured.

use anyhow::Result;
use clap::ValueEnum;
use kernel::iptables::Backend;
use policy::iptables::Iptables;
use policy::nftables::Nftables;
use policy::{Enforcer, Settings};

/// A way of enforcing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }

    /// What has the daemon enforce so.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Nftables => &["--proxy-mode=nftables"],
            Self::IptablesNft => &["--proxy-mode=iptables", "--iptables-backend=nft"],
            Self::IptablesLegacy => &["--proxy-mode=iptables", "--iptables-backend=legacy"],
        }
    }

    /// As the daemon has it unless it is told otherwise: for both families.
    pub(crate) fn open(self) -> Result<Box<dyn Enforcer>> {
        let iptables = |backend| Iptables::new(Settings::default(), Some(backend));
        Ok(match self {
            Self::Nftables => Box::new(Nftables::new(Settings::default())?),
            Self::IptablesNft => Box::new(iptables(Backend::Nft)?),
            Self::IptablesLegacy => Box::new(iptables(Backend::Legacy)?),
        })
    }
}

impl std::fmt::Display for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
