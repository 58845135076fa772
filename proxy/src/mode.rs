//! Which mode programs the node: the one place that names them all.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail};
use ipnet::IpNet;
use modes::iptables::{self, Backend, Iptables};
use modes::ipvs::{self, Ipvs};
use modes::nftables::{self, Nftables};
use modes::userspace::bound::{self, Bound};
use modes::userspace::forward::{self, Forwarder};
use modes::{Mode, Settings};
use tracing::subscriber::NoSubscriber;

use crate::cli::Entry;

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
    /// What carries traffic in userspace mode.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// Takes away what other modes programmed earlier, and kube-proxy in them: connections would go on by what was there
/// first. Returns how many tables, chains and rules went.
pub type RetireOthers = Box<dyn FnOnce() -> anyhow::Result<usize>>;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which mode.
    pub name: ModeName,
    /// What every mode is told.
    pub settings: Settings,
    /// Which iptables, for modes that use it.
    pub iptables_backend: Option<Backend>,
    /// What only ipvs mode is told.
    pub ipvs: ipvs::Options,
    /// How connections come to userspace mode.
    pub entry: Entry,
    /// What only bound entry is told.
    pub bound: bound::Options,
}

/// Makes ready the mode that was asked for. Nothing is programmed yet.
///
/// # Errors
/// When the mode is not built yet, or the node lacks what it needs.
pub fn choose(asked: Asked) -> anyhow::Result<Chosen> {
    let Asked { name, settings, iptables_backend, ipvs, entry, bound } = asked;
    let excluded = ipvs.exclude_cidrs.clone();
    match name {
        ModeName::Nftables => {
            let mode = Nftables::new(settings).context("cannot use nftables")?;
            let retire_others =
                move || Ok(retire_kube_proxy()? + retire_iptables(&Backend::BOTH)? + retire_ipvs(&excluded)?);
            Ok(Chosen { mode: Box::new(mode), retire_others: Box::new(retire_others), forwarder: None })
        }
        ModeName::Iptables => {
            let mode = Iptables::new(settings, iptables_backend).context("cannot use iptables")?;
            let others = other_backends(mode.backend());
            let retire_others = move || {
                let chains = retire_nftables()? + retire_iptables(&others)?;
                Ok(retire_kube_proxy()? + chains + retire_ipvs(&excluded)?)
            };
            Ok(Chosen { mode: Box::new(mode), retire_others: Box::new(retire_others), forwarder: None })
        }
        ModeName::Ipvs => {
            let mode = Ipvs::new(settings.clone(), ipvs, iptables_backend);
            let mode = mode.with_context(|| cannot_use_ipvs(&settings, iptables_backend))?;
            let others = other_backends(mode.backend());
            let retire_others =
                move || Ok(retire_kube_proxy()? + retire_nftables()? + retire_iptables(&others)?);
            Ok(Chosen { mode: Box::new(mode), retire_others: Box::new(retire_others), forwarder: None })
        }
        ModeName::Userspace if entry.is_bound() => {
            let forwarder = Forwarder::start(forward::Options::default());
            let forwarder = Arc::new(forwarder.context("cannot start the forwarder")?);
            let mode = Bound::new(Arc::clone(&forwarder), bound).context("cannot use bound entry")?;
            // It programs nothing that others could be in the way of.
            let retire_others = || Ok(0);
            Ok(Chosen {
                mode: Box::new(mode),
                retire_others: Box::new(retire_others),
                forwarder: Some(forwarder),
            })
        }
        ModeName::Userspace => {
            bail!("--proxy-mode={name} works with --userspace-entry=bound only, so far")
        }
    }
}

fn other_backends(kept: Backend) -> Vec<Backend> {
    Backend::BOTH.into_iter().filter(|backend| *backend != kept).collect()
}

/// Says which modes would work instead.
fn cannot_use_ipvs(settings: &Settings, backend: Option<Backend>) -> String {
    // What trying them has to say is not what was asked.
    let (nftables, iptables) = tracing::subscriber::with_default(NoSubscriber::default(), || {
        (Nftables::new(settings.clone()).is_ok(), Iptables::new(settings.clone(), backend).is_ok())
    });
    let nftables = nftables.then_some(ModeName::Nftables);
    let iptables = iptables.then_some(ModeName::Iptables);
    let working: Vec<_> = nftables.into_iter().chain(iptables).map(|mode| mode.to_string()).collect();
    match working.is_empty() {
        true => "cannot use ipvs".to_owned(),
        false => format!("cannot use ipvs (--proxy-mode={} would work here)", working.join(" or ")),
    }
}

/// Takes away what any mode programmed, but for virtual servers of IPVS within some ranges. Returns how many tables,
/// chains, rules, sets and servers went.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(exclude_cidrs: &[IpNet]) -> anyhow::Result<usize> {
    Ok(retire_nftables()? + retire_iptables(&Backend::BOTH)? + retire_ipvs(exclude_cidrs)?)
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

/// Not before the rules that use its sets.
fn retire_ipvs(exclude_cidrs: &[IpNet]) -> anyhow::Result<usize> {
    ipvs::cleanup(exclude_cidrs).context("cannot remove the virtual servers, addresses and sets of IPVS")
}
