//! The modes that are measured.

use anyhow::Result;
use clap::ValueEnum;
use ipnet::IpNet;
use modes::iptables::{Backend, Iptables};
use modes::ipvs::{Ipvs, Options, Scheduler, Timeouts};
use modes::nftables::Nftables;
use modes::{DetectLocal, Mode, Settings};
use std::time::Duration;
use testbed::mode;

/// A mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    Ipvs,
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Ipvs, Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];
    /// Those whose memory is measured. That of iptables modes is in `iptables.md`.
    pub(crate) const MEASURED_BINARIES: [Self; 2] = [Self::Ipvs, Self::Nftables];

    /// As a proxy is asked for it.
    pub(crate) fn flags(self) -> mode::Mode {
        match self {
            Self::Ipvs => mode::IPVS,
            Self::Nftables => mode::NFTABLES,
            Self::IptablesNft => mode::IPTABLES_NFT,
            Self::IptablesLegacy => mode::IPTABLES_LEGACY,
        }
    }

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        self.flags().name
    }

    /// The mode, in the namespace that this thread is in.
    pub(crate) fn open(self) -> Result<Box<dyn Mode>> {
        let settings = settings()?;
        Ok(match self {
            Self::Ipvs => Box::new(ipvs()?),
            Self::Nftables => Box::new(Nftables::new(settings)?),
            Self::IptablesNft => Box::new(Iptables::new(settings, Some(Backend::Nft))?),
            Self::IptablesLegacy => Box::new(Iptables::new(settings, Some(Backend::Legacy))?),
        })
    }
}

/// The IPVS mode, in the namespace that this thread is in.
pub(crate) fn ipvs() -> Result<Ipvs> {
    let options = Options {
        scheduler: Scheduler::default(),
        sync_period: Duration::from_secs(30),
        exclude_cidrs: Vec::new(),
        strict_arp: false,
        timeouts: Timeouts::default(),
    };
    Ok(Ipvs::new(settings()?, options, Some(Backend::Nft))?)
}

/// IPv4, where pods can be told by their addresses.
fn settings() -> Result<Settings> {
    let pods: IpNet = "10.0.0.0/8".parse()?;
    let detect_local = DetectLocal::ClusterCidr(vec![pods]);
    Ok(Settings { ipv6: false, detect_local, ..Settings::default() })
}
