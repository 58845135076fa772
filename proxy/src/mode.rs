//! Which mode programs the node: the one place that names them all.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail};
use modes::iptables::{self, Backend, Iptables};
use modes::nftables::{self, Nftables};
use modes::{Mode, Settings};

/// What `--proxy-mode` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeName {
    /// nftables: few rules, maps for everything.
    Nftables,
    /// iptables: kube-proxy's chains.
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

/// A mode that is ready to work.
pub struct Chosen {
    /// The mode.
    pub mode: Box<dyn Mode>,
    /// To be called once the mode has programmed the node.
    pub retire_others: RetireOthers,
}

/// Takes away what other modes programmed earlier, and kube-proxy in them: connections would go on by what was there
/// first. Returns how many tables, chains and rules went.
pub type RetireOthers = Box<dyn FnOnce() -> anyhow::Result<usize>>;

/// Makes ready the mode that was asked for. Nothing is programmed yet.
///
/// # Errors
/// When the mode is not built yet, or the node lacks what it needs.
pub fn choose(
    name: ModeName,
    settings: Settings,
    iptables_backend: Option<Backend>,
) -> anyhow::Result<Chosen> {
    match name {
        ModeName::Nftables => {
            let mode = Nftables::new(settings).context("cannot use nftables")?;
            let retire_others = || Ok(retire_kube_proxy()? + retire_iptables(&Backend::BOTH)?);
            Ok(Chosen { mode: Box::new(mode), retire_others: Box::new(retire_others) })
        }
        ModeName::Iptables => {
            let mode = Iptables::new(settings, iptables_backend).context("cannot use iptables")?;
            let kept = mode.backend();
            let retire_others = move || {
                let others: Vec<_> = Backend::BOTH.into_iter().filter(|backend| *backend != kept).collect();
                Ok(retire_kube_proxy()? + retire_nftables()? + retire_iptables(&others)?)
            };
            Ok(Chosen { mode: Box::new(mode), retire_others: Box::new(retire_others) })
        }
        ModeName::Ipvs | ModeName::Userspace => {
            bail!("--proxy-mode={name} does not work yet: use --proxy-mode=nftables or iptables")
        }
    }
}

/// Takes away what any mode programmed. Returns how many tables, chains and rules went.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> anyhow::Result<usize> {
    Ok(retire_nftables()? + retire_iptables(&Backend::BOTH)?)
}

fn retire_nftables() -> anyhow::Result<usize> {
    nftables::cleanup().context("cannot remove the nftables tables")
}

fn retire_kube_proxy() -> anyhow::Result<usize> {
    nftables::remove_kube_proxy().context("cannot remove kube-proxy's nftables tables")
}

fn retire_iptables(backends: &[Backend]) -> anyhow::Result<usize> {
    iptables::cleanup(backends).context("cannot remove the iptables chains")
}
