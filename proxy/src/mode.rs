//! Which mode programs the node: the one place that names them all.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail};
use modes::nftables::{self, Nftables};
use modes::{Mode, Settings};

/// What `--proxy-mode` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeName {
    /// nftables: few rules, maps for everything.
    Nftables,
    /// iptables and ipset.
    Iptables,
    /// The kernel's load balancer.
    Ipvs,
    /// Connections carried by the process itself.
    Userspace,
}

impl fmt::Display for ModeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Userspace => "userspace",
        })
    }
}

impl FromStr for ModeName {
    type Err = &'static str;

    /// An empty word asks for the default, as in kube-proxy.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.trim() {
            "" | "nftables" => Ok(Self::Nftables),
            "iptables" => Ok(Self::Iptables),
            "ipvs" => Ok(Self::Ipvs),
            "userspace" => Ok(Self::Userspace),
            _ => Err("the modes are nftables, iptables, ipvs and userspace"),
        }
    }
}

/// Makes ready the mode that was asked for. Nothing is programmed yet.
///
/// # Errors
/// When the mode is not built yet, or the kernel lacks what it needs.
pub fn build(name: ModeName, settings: Settings) -> anyhow::Result<Box<dyn Mode>> {
    match name {
        ModeName::Nftables => {
            let mode = Nftables::new(settings).context("cannot use nftables")?;
            Ok(Box::new(mode))
        }
        ModeName::Iptables | ModeName::Ipvs | ModeName::Userspace => {
            bail!("--proxy-mode={name} does not work yet: use --proxy-mode=nftables")
        }
    }
}

/// Takes away what any mode programmed. Returns how many tables went.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> anyhow::Result<usize> {
    nftables::cleanup().context("cannot remove the nftables tables")
}
