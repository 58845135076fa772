//! Which mode programs the node: the one place that names them all.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use modes::iptables::{self, Backend, Iptables};
use modes::ipvs::{self, Ipvs};
use modes::nftables::{self, Nftables};
use modes::userspace::bound::Bound;
use modes::userspace::captured::{self, Captured, LedBy};
use modes::userspace::forward::Forwarder;
use modes::{Mode, Settings};
use tracing::subscriber::NoSubscriber;

use crate::cli::{Entry, UserspaceFlags};
use crate::options::Options;

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
    /// Whether it leaves rules in the kernel.
    pub programs_kernel: bool,
    /// What carries the traffic, in userspace mode.
    pub forwarder: Option<Arc<Forwarder>>,
}

impl Chosen {
    fn new(
        mode: impl Mode + 'static,
        retire_others: impl Fn() -> anyhow::Result<Retired> + Send + 'static,
    ) -> Self {
        Self {
            mode: Box::new(mode),
            retire_others: Box::new(retire_others),
            programs_kernel: true,
            forwarder: None,
        }
    }
}

/// Takes away what other modes programmed earlier, and kube-proxy in them: connections would go on by what was there
/// first. May be tried again.
pub type RetireOthers = Box<dyn Fn() -> anyhow::Result<Retired> + Send>;

/// What came of that.
#[derive(Default)]
pub struct Retired {
    /// How many tables, chains, rules, sets, servers and addresses went.
    pub removed: usize,
    /// What stays of ipvs mode for connections that IPVS carries.
    pub leaving: Option<ipvs::Leaving>,
}

impl Retired {
    fn and(self, removed: usize) -> Self {
        Self { removed: self.removed + removed, ..self }
    }
}

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
    /// What only userspace mode asks.
    pub userspace: UserspaceFlags,
}

/// Makes ready the mode that was asked for. Nothing is programmed yet.
///
/// # Errors
/// When the node lacks what it needs.
pub fn choose(asked: Asked) -> anyhow::Result<Chosen> {
    let Asked { name, settings, iptables_backend, ipvs, userspace } = asked;
    let excluded = ipvs.exclude_cidrs.clone();
    let capture_addresses = userspace.userspace_capture_addresses.clone();
    match name {
        ModeName::Nftables => {
            let mode = Nftables::new(settings).context("cannot use nftables")?;
            Ok(Chosen::new(mode, move || {
                let rules = all([retire_kube_proxy(), retire_iptables(&Backend::BOTH)]);
                together(leave_ipvs(&excluded), all([rules, retire_userspace(&capture_addresses)]))
            }))
        }
        ModeName::Iptables => {
            let mode = Iptables::new(settings, iptables_backend).context("cannot use iptables")?;
            let others = other_backends(mode.backend());
            Ok(Chosen::new(mode, move || {
                let rules = all([retire_nftables(), retire_iptables(&others), retire_kube_proxy()]);
                together(leave_ipvs(&excluded), all([rules, retire_userspace(&capture_addresses)]))
            }))
        }
        ModeName::Ipvs => {
            let mode = Ipvs::new(settings.clone(), ipvs, iptables_backend);
            let mode = mode.with_context(|| cannot_use_ipvs(&settings, iptables_backend))?;
            let others = other_backends(mode.backend());
            Ok(Chosen::new(mode, move || {
                let rules = all([retire_kube_proxy(), retire_nftables(), retire_iptables(&others)]);
                let others = all([rules, retire_userspace(&capture_addresses)]);
                together(Ok(Retired::default()), others)
            }))
        }
        ModeName::Userspace => choose_entry(&settings, &userspace, iptables_backend, excluded),
    }
}

fn choose_entry(
    settings: &Settings,
    flags: &UserspaceFlags,
    iptables_backend: Option<Backend>,
    excluded: Vec<IpNet>,
) -> anyhow::Result<Chosen> {
    match flags.userspace_entry {
        Entry::Captured => capture(settings, flags, iptables_backend, excluded),
        Entry::Auto if is_privileged() => capture(settings, flags, iptables_backend, excluded),
        Entry::Auto | Entry::Bound => bind(flags),
    }
}

/// The bound entry. It programs nothing that others could be in the way of.
fn bind(flags: &UserspaceFlags) -> anyhow::Result<Chosen> {
    let forwarder = Arc::new(Forwarder::start(flags.forward()).context("cannot start the forwarder")?);
    let mode = Bound::new(Arc::clone(&forwarder), flags.bound()).context("cannot bind local ports")?;
    Ok(Chosen {
        forwarder: Some(forwarder),
        programs_kernel: false,
        ..Chosen::new(mode, || Ok(Retired::default()))
    })
}

/// Whether this process may program the kernel, whatever the kernel can do.
fn is_privileged() -> bool {
    let answer = kernel::nft::Nftables::open().and_then(|mut nftables| nftables.generation());
    !matches!(answer, Err(kernel::Error::Permission { .. }))
}

/// The captured entry: by nftables, unless a back end of iptables is asked for, or there are no nftables.
fn capture(
    settings: &Settings,
    flags: &UserspaceFlags,
    iptables_backend: Option<Backend>,
    excluded: Vec<IpNet>,
) -> anyhow::Result<Chosen> {
    let open = |led_by| Captured::new(settings.clone(), flags.captured(), led_by);
    let iptables = LedBy::Iptables(iptables_backend);
    let mode = match iptables_backend {
        Some(_) => open(iptables).context("cannot capture traffic by iptables")?,
        None => open(LedBy::Nftables).or_else(|error| {
            let mode = open(iptables);
            if mode.is_ok() {
                tracing::info!("capturing traffic by iptables: {error}");
            }
            mode.with_context(|| format!("cannot capture traffic by nftables ({error}) or iptables"))
        })?,
    };
    let led_by = mode.led_by();
    let forwarder = Some(mode.forwarder());
    let retire_others = move || {
        let rules = match led_by {
            LedBy::Nftables => retire_iptables(&Backend::BOTH),
            LedBy::Iptables(backend) => {
                let others = backend.map_or(Vec::new(), other_backends);
                all([retire_nftables(), retire_iptables(&others)])
            }
        };
        let other_way = captured::retire_rules(led_by).context(CANNOT_RETIRE_USERSPACE);
        together(leave_ipvs(&excluded), all([rules, other_way, retire_kube_proxy()]))
    };
    Ok(Chosen { forwarder, ..Chosen::new(mode, retire_others) })
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

/// Takes away what any mode programmed, but for virtual servers of IPVS within some ranges; the captured entry of
/// userspace mode may have had other addresses than its usual ones. Returns how many tables, chains, rules, sets, servers
/// and addresses went.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(exclude_cidrs: &[IpNet], capture_addresses: &[IpAddr]) -> anyhow::Result<usize> {
    let rules = all([retire_nftables(), retire_iptables(&Backend::BOTH)]);
    all([rules, retire_ipvs(exclude_cidrs), retire_userspace(capture_addresses)])
}

/// What came of several parts, each of which was done whatever came of the others; with what failed first.
fn all<const N: usize>(parts: [anyhow::Result<usize>; N]) -> anyhow::Result<usize> {
    parts.into_iter().reduce(|sum, part| Ok(sum? + part?)).unwrap_or(Ok(0))
}

/// The same, where IPVS may stay for a while.
fn together(ipvs: anyhow::Result<Retired>, others: anyhow::Result<usize>) -> anyhow::Result<Retired> {
    Ok(ipvs?.and(others?))
}

/// Sets the kernel parameters of a mode that a container may not (`--init-only`).
///
/// # Errors
/// When one cannot be set.
pub fn initialise(options: &Options) -> anyhow::Result<()> {
    match options.mode {
        ModeName::Iptables => iptables::initialise(&options.settings).map_err(Into::into),
        ModeName::Ipvs => ipvs::initialise(&options.ipvs).map_err(Into::into),
        ModeName::Nftables | ModeName::Userspace => Ok(()),
    }
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

const CANNOT_RETIRE_IPVS: &str = "cannot remove the virtual servers, addresses and sets of IPVS";

/// Not before the rules that use its sets.
fn retire_ipvs(exclude_cidrs: &[IpNet]) -> anyhow::Result<usize> {
    ipvs::cleanup(exclude_cidrs).context(CANNOT_RETIRE_IPVS)
}

/// The same, but for what IPVS carries.
fn leave_ipvs(exclude_cidrs: &[IpNet]) -> anyhow::Result<Retired> {
    let (removed, leaving) = ipvs::leave(exclude_cidrs).context(CANNOT_RETIRE_IPVS)?;
    Ok(Retired { removed, leaving })
}

const CANNOT_RETIRE_USERSPACE: &str = "cannot remove the rules, routes and addresses of userspace mode";

/// Not before what leads to it.
fn retire_userspace(capture_addresses: &[IpAddr]) -> anyhow::Result<usize> {
    captured::cleanup(capture_addresses).context(CANNOT_RETIRE_USERSPACE)
}
