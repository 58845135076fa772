//! What a configuration asks for, checked and worked out: texts become what the parts of the program take.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use endpoint_cache::Family;
use ipnet::IpNet;
use modes::ipvs::{self, Scheduler, Timeouts};
use modes::userspace::captured::{BORROWED, LED_BACK};
use modes::{DetectLocal, NodePortAddresses, Settings};

use crate::cli::Cli;
use crate::config::{GoDuration, KubeProxyConfiguration};
use crate::conntrack::Conntrack;
use crate::logging::{Format, Levels, LogOptions};
use crate::mode::ModeName;
use crate::source::kubernetes::Access;

/// Everything that a configuration decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which mode.
    pub mode: ModeName,
    /// What every mode is told.
    pub settings: Settings,
    /// What only ipvs mode is told.
    pub ipvs: ipvs::Options,
    /// A change that waits for longer makes the process unhealthy.
    pub stale_after: Duration,
    /// Changes are programmed no sooner than this after the last ones.
    pub min_sync_period: Duration,
    /// Where health is told, if anywhere.
    pub healthz: Option<SocketAddr>,
    /// Where metrics are told, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Whether an address that is taken is the end.
    pub bind_hard_fail: bool,
    /// What conntrack is told.
    pub conntrack: Conntrack,
    /// The process' place in the kernel's choice of what to kill, -1000 to 1000.
    pub oom_score_adj: i32,
    /// What is logged, and how.
    pub log: LogOptions,
    /// Who we are to the API server.
    kubeconfig: Option<PathBuf>,
    /// The node's name, if it is not the host's.
    node_name: Option<String>,
}

/// A field that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which, as a configuration file names it.
    pub field: &'static str,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// By itself.
    Is(String),
    /// It asks for what another field does not say.
    Needs(&'static str, &'static str),
    /// It is to be no more than another.
    Exceeds(&'static str),
}

impl Invalid {
    /// One line, with fields named as the user wrote them.
    pub(crate) fn told(&self, name: impl Fn(&'static str) -> &'static str) -> String {
        let field = name(self.field);
        match &self.reason {
            Reason::Is(reason) => format!("{field}: {reason}"),
            Reason::Needs(value, other) => format!("{field}: {value} needs {}", name(other)),
            Reason::Exceeds(other) => format!("{field}: it is longer than {}", name(other)),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(|field| field))
    }
}

impl Options {
    /// Works a configuration out.
    ///
    /// # Errors
    /// With everything in it that makes no sense.
    pub fn of(configuration: &KubeProxyConfiguration) -> Result<Self, Vec<Invalid>> {
        let mut reader = Reader { configuration, invalid: Vec::new() };
        let options = reader.options();
        if reader.invalid.is_empty() { Ok(options) } else { Err(reader.invalid) }
    }

    /// The node's name in the cluster, as kube-proxy makes it: lower case, no blanks around.
    ///
    /// # Errors
    /// When the host has no readable name, and none is given.
    pub fn node_name(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let unreadable = |error| {
            anyhow::anyhow!(
                "cannot read the host name: {error}; give the node's name with --hostname-override"
            )
        };
        let name = nix::unistd::gethostname().map_err(unreadable)?;
        Ok(name.to_string_lossy().trim().to_lowercase())
    }

    /// Whether an API server is named.
    pub(crate) fn names_a_server(&self, cli: &Cli) -> bool {
        self.kubeconfig.is_some() || !cli.master.is_empty()
    }

    /// Where objects are to come from: a folder if one is given, else an API server.
    pub(crate) fn origin(&self, cli: &Cli) -> Origin {
        match &cli.manifests {
            Some(path) => Origin::Manifests(path.clone()),
            None => {
                let master = Some(cli.master.clone()).filter(|master| !master.is_empty());
                Origin::Kubernetes(Access::of(self.kubeconfig.clone(), master))
            }
        }
    }
}

/// Where objects are to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A folder or file of manifests.
    Manifests(PathBuf),
    /// An API server.
    Kubernetes(Access),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(path) => write!(f, "manifests {}", path.display()),
            Self::Kubernetes(access) => access.fmt(f),
        }
    }
}

/// The section that is in force says when to sync.
struct Periods {
    sync: (&'static str, GoDuration),
    min: (&'static str, GoDuration),
}

/// Reads fields one by one; what makes no sense is remembered, and something else taken in its place.
struct Reader<'a> {
    configuration: &'a KubeProxyConfiguration,
    invalid: Vec<Invalid>,
}

impl Reader<'_> {
    fn options(&mut self) -> Options {
        let configuration = self.configuration;
        let mode = self.mode();
        let (sync_period, min_sync_period) = self.periods(mode);
        self.counts();
        Options {
            mode,
            settings: self.settings(mode),
            ipvs: self.ipvs(),
            stale_after: 2 * sync_period,
            min_sync_period,
            healthz: self.socket_address("healthzBindAddress", &configuration.healthz_bind_address, 10256),
            metrics: self.socket_address("metricsBindAddress", &configuration.metrics_bind_address, 10249),
            bind_hard_fail: configuration.bind_address_hard_fail,
            conntrack: self.conntrack(),
            oom_score_adj: self.within("oomScoreAdj", configuration.oom_score_adj, -1000, 1000),
            log: self.log(),
            kubeconfig: given(&configuration.client_connection.kubeconfig).map(PathBuf::from),
            node_name: self.node_name(),
        }
    }

    fn is_invalid(&mut self, field: &'static str, reason: impl Into<String>) {
        self.invalid.push(Invalid { field, reason: Reason::Is(reason.into()) });
    }

    /// What was read, or why it cannot be.
    fn read<T, E: fmt::Display>(&mut self, field: &'static str, read: Result<T, E>) -> Option<T> {
        read.inspect_err(|reason| self.is_invalid(field, reason.to_string())).ok()
    }

    fn within(&mut self, field: &'static str, value: i32, least: i32, most: i32) -> i32 {
        if !(least..=most).contains(&value) {
            self.is_invalid(field, format!("{value} is not within {least} to {most}"));
        }
        value.clamp(least, most)
    }

    fn mode(&mut self) -> ModeName {
        let mode: Result<ModeName, _> = self.configuration.mode.parse();
        let mode = mode.map_err(|reason| format!("{:?} is no mode: {reason}", self.configuration.mode));
        self.read("mode", mode).unwrap_or(ModeName::Nftables)
    }

    /// How long a change may wait, and how far apart syncs are at least.
    fn periods(&mut self, mode: ModeName) -> (Duration, Duration) {
        let KubeProxyConfiguration { iptables, ipvs, nftables, .. } = self.configuration;
        let periods = match mode {
            ModeName::Nftables | ModeName::Userspace => Periods {
                sync: ("nftables.syncPeriod", nftables.sync_period),
                min: ("nftables.minSyncPeriod", nftables.min_sync_period),
            },
            ModeName::Iptables => Periods {
                sync: ("iptables.syncPeriod", iptables.sync_period),
                min: ("iptables.minSyncPeriod", iptables.min_sync_period),
            },
            ModeName::Ipvs => Periods {
                sync: ("ipvs.syncPeriod", ipvs.sync_period),
                min: ("ipvs.minSyncPeriod", ipvs.min_sync_period),
            },
        };
        let (sync, min) = (self.period(periods.sync.0, periods.sync.1), self.not_negative(periods.min));
        if min > sync {
            self.invalid.push(Invalid { field: periods.min.0, reason: Reason::Exceeds(periods.sync.0) });
        }
        (sync, min)
    }

    fn period(&mut self, field: &'static str, period: GoDuration) -> Duration {
        let usable = period.positive().filter(|period| !period.is_zero());
        usable.unwrap_or_else(|| {
            self.is_invalid(field, format!("{period} is not longer than nothing, such as 30s or 1m30s"));
            Duration::from_secs(30)
        })
    }

    fn not_negative(&mut self, (field, duration): (&'static str, GoDuration)) -> Duration {
        duration.positive().unwrap_or_else(|| {
            self.is_invalid(field, format!("{duration} is less than nothing"));
            Duration::ZERO
        })
    }

    fn conntrack(&mut self) -> Conntrack {
        let asked = &self.configuration.conntrack;
        let (established, close_wait) = (asked.tcp_established_timeout, asked.tcp_close_wait_timeout);
        Conntrack {
            max_per_core: self.count("conntrack.maxPerCore", asked.max_per_core),
            min: self.count("conntrack.min", asked.min),
            tcp_established: self.not_negative(("conntrack.tcpEstablishedTimeout", established)),
            tcp_close_wait: self.not_negative(("conntrack.tcpCloseWaitTimeout", close_wait)),
            tcp_be_liberal: asked.tcp_be_liberal,
            udp: self.not_negative(("conntrack.udpTimeout", asked.udp_timeout)),
            udp_stream: self.not_negative(("conntrack.udpStreamTimeout", asked.udp_stream_timeout)),
        }
    }

    fn count(&mut self, field: &'static str, count: i32) -> u32 {
        u32::try_from(count).unwrap_or_else(|_| {
            self.is_invalid(field, format!("{count} is less than nothing"));
            0
        })
    }

    /// What is only looked at elsewhere, or never.
    fn counts(&mut self) {
        let configuration = self.configuration;
        if configuration.client_connection.burst < 0 {
            self.is_invalid("clientConnection.burst", "it is less than nothing");
        }
        self.period("configSyncPeriod", configuration.config_sync_period);
    }

    fn settings(&mut self, mode: ModeName) -> Settings {
        let configuration = self.configuration;
        let (iptables, nftables) = (&configuration.iptables, &configuration.nftables);
        let (field, bit, masquerade_all) = match mode {
            ModeName::Nftables => {
                ("nftables.masqueradeBit", nftables.masquerade_bit, nftables.masquerade_all)
            }
            _ => ("iptables.masqueradeBit", iptables.masquerade_bit, iptables.masquerade_all),
        };
        let bit = u8::try_from(self.within(field, bit, 0, 31)).unwrap_or_default();
        if mode == ModeName::Userspace && matches!(1 << bit, BORROWED | LED_BACK) {
            let reason = format!("{bit} is taken in userspace mode, which marks packets with bits 12 and 13");
            self.is_invalid(field, reason);
        }
        Settings {
            masquerade_bit: bit,
            masquerade_all,
            localhost_node_ports: iptables.localhost_node_ports,
            detect_local: self.detect_local(),
            node_port_addresses: self.node_port_addresses(),
            node_address: self.node_address(),
            ..Settings::default()
        }
    }

    fn node_address(&mut self) -> Option<IpAddr> {
        let text = self.configuration.bind_address.trim();
        let address = text.parse().map_err(|_| format!("{text:?} is no address such as 192.0.2.1"));
        self.read("bindAddress", address).filter(|address: &IpAddr| !address.is_unspecified())
    }

    fn detect_local(&mut self) -> DetectLocal {
        let configuration = self.configuration;
        let (bridge, prefix) =
            (&configuration.detect_local.bridge_interface, &configuration.detect_local.interface_name_prefix);
        // Looked at in every mode: what is there should make sense.
        let cidrs = self.cluster_cidrs();
        let missing =
            |value, other| Invalid { field: "detectLocalMode", reason: Reason::Needs(value, other) };
        match configuration.detect_local_mode.trim() {
            "" | "ClusterCIDR" => DetectLocal::ClusterCidr(cidrs),
            "NodeCIDR" => DetectLocal::NodeCidr,
            "BridgeInterface" => {
                if bridge.is_empty() {
                    self.invalid.push(missing("BridgeInterface", "detectLocal.bridgeInterface"));
                }
                DetectLocal::BridgeInterface(bridge.clone())
            }
            "InterfaceNamePrefix" => {
                if prefix.is_empty() {
                    self.invalid.push(missing("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix"));
                }
                DetectLocal::InterfaceNamePrefix(prefix.clone())
            }
            other => {
                let ways = "ClusterCIDR, NodeCIDR, BridgeInterface and InterfaceNamePrefix";
                self.is_invalid(
                    "detectLocalMode",
                    format!("{other:?} is no way to tell pods: there are {ways}"),
                );
                DetectLocal::ClusterCidr(cidrs)
            }
        }
    }

    fn cluster_cidrs(&mut self) -> Vec<IpNet> {
        let words = self.configuration.cluster_cidr.split(',').filter(|word| !word.trim().is_empty());
        let cidrs = words.map(cidr).collect();
        let cidrs: Vec<IpNet> = self.read("clusterCIDR", cidrs).unwrap_or_default();
        for family in Family::BOTH {
            if cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).count() > 1 {
                let reason = format!("it takes at most one CIDR of each family, and has two of {family}");
                self.is_invalid("clusterCIDR", reason);
            }
        }
        cidrs
    }

    fn node_port_addresses(&mut self) -> NodePortAddresses {
        const FIELD: &str = "nodePortAddresses";
        let words = self.configuration.node_port_addresses.iter().map(|word| word.trim());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        match &*words {
            [] => NodePortAddresses::Default,
            ["primary"] => NodePortAddresses::Primary,
            _ if words.contains(&"primary") => {
                self.is_invalid(FIELD, "it takes either CIDRs or the single word primary, not both");
                NodePortAddresses::Default
            }
            _ => {
                let cidrs = self.read(FIELD, words.iter().map(|word| cidr(word)).collect());
                NodePortAddresses::Cidrs(cidrs.unwrap_or_default())
            }
        }
    }

    /// An address with a port, or the usual one; empty for none.
    fn socket_address(&mut self, field: &'static str, text: &str, port: u16) -> Option<SocketAddr> {
        let text = given(text)?;
        let alone = |text: &str| Some(SocketAddr::new(text.parse().ok()?, port));
        let address = text.parse().ok().or_else(|| alone(text));
        let address = address.filter(|address: &SocketAddr| address.port() > 0);
        self.read(field, address.ok_or_else(|| format!("{text:?} is no address such as 127.0.0.1:{port}")))
    }

    fn ipvs(&mut self) -> ipvs::Options {
        let ipvs = &self.configuration.ipvs;
        let cidrs = ipvs.exclude_cidrs.iter().filter(|word| !word.trim().is_empty()).map(|word| cidr(word));
        let scheduler = given(&ipvs.scheduler).map(str::parse).transpose();
        ipvs::Options {
            scheduler: self
                .read::<Option<Scheduler>, _>("ipvs.scheduler", scheduler)
                .flatten()
                .unwrap_or_default(),
            sync_period: self.period("ipvs.syncPeriod", ipvs.sync_period),
            exclude_cidrs: self.read("ipvs.excludeCIDRs", cidrs.collect()).unwrap_or_default(),
            strict_arp: ipvs.strict_arp,
            timeouts: Timeouts {
                tcp: self.seconds("ipvs.tcpTimeout", ipvs.tcp_timeout),
                tcp_fin: self.seconds("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout),
                udp: self.seconds("ipvs.udpTimeout", ipvs.udp_timeout),
            },
        }
    }

    /// Whole seconds, which is what IPVS counts in.
    fn seconds(&mut self, field: &'static str, duration: GoDuration) -> u32 {
        let whole = duration.positive().filter(|duration| duration.subsec_nanos() == 0);
        let seconds = whole.and_then(|duration| u32::try_from(duration.as_secs()).ok());
        seconds.unwrap_or_else(|| {
            self.is_invalid(
                field,
                format!("{duration} is no length of time in whole seconds such as 0s or 15m"),
            );
            0
        })
    }

    fn log(&mut self) -> LogOptions {
        let logging = &self.configuration.logging;
        let format = match logging.format.trim() {
            "" | "text" => Format::Text,
            "json" => Format::Json,
            other => {
                self.is_invalid("logging.format", format!("{other:?} is neither text nor json"));
                Format::Text
            }
        };
        let modules = logging.vmodule.iter().map(|item| (item.file_pattern.clone(), item.verbosity));
        LogOptions { format, levels: Levels::new(logging.verbosity, modules) }
    }

    fn node_name(&mut self) -> Option<String> {
        let name = Some(&self.configuration.hostname_override).filter(|name| !name.is_empty())?;
        let name = name.trim().to_lowercase();
        if name.is_empty() {
            self.is_invalid("hostnameOverride", "it is blank: give the node's name in the cluster");
        }
        Some(name)
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// A CIDR with its host bits cleared, as everything that compares prefixes needs it.
fn cidr(text: &str) -> Result<IpNet, String> {
    let net: Result<IpNet, _> = text.trim().parse();
    let net = net.map_err(|_| format!("{text:?} is no CIDR such as 10.244.0.0/16 or fd00:10:244::/56"))?;
    Ok(net.trunc())
}

#[cfg(test)]
mod tests;
