//! Flags that a field of KubeProxyConfiguration stands for: with `--config`, the file says it, and these do not count.
//!
//! They are kept as they are written; [`crate::options`] makes sense of them, in the same way as of a file.

use clap::{ArgAction, Args};

use super::conntrack::ConntrackFlags;
use super::ipvs::IpvsFlags;
use super::{KERNEL, NODE, OTHER, SOURCE, TELEMETRY, TRAFFIC, boolean};
use crate::config::{GoDuration, KubeProxyConfiguration};

const SYNC: &str = "Syncing";

/// The flag for each field, as error messages name it.
const FLAGS: &[(&str, &str)] = &[
    ("bindAddress", "--bind-address"),
    ("clientConnection.kubeconfig", "--kubeconfig"),
    ("clusterCIDR", "--cluster-cidr"),
    ("conntrack.maxPerCore", "--conntrack-max-per-core"),
    ("conntrack.min", "--conntrack-min"),
    ("conntrack.tcpCloseWaitTimeout", "--conntrack-tcp-timeout-close-wait"),
    ("conntrack.tcpEstablishedTimeout", "--conntrack-tcp-timeout-established"),
    ("conntrack.udpStreamTimeout", "--conntrack-udp-timeout-stream"),
    ("conntrack.udpTimeout", "--conntrack-udp-timeout"),
    ("detectLocal.bridgeInterface", "--pod-bridge-interface"),
    ("detectLocal.interfaceNamePrefix", "--pod-interface-name-prefix"),
    ("detectLocalMode", "--detect-local-mode"),
    ("healthzBindAddress", "--healthz-bind-address"),
    ("hostnameOverride", "--hostname-override"),
    ("iptables.masqueradeBit", "--iptables-masquerade-bit"),
    ("iptables.minSyncPeriod", "--iptables-min-sync-period"),
    ("iptables.syncPeriod", "--iptables-sync-period"),
    ("ipvs.excludeCIDRs", "--ipvs-exclude-cidrs"),
    ("ipvs.minSyncPeriod", "--ipvs-min-sync-period"),
    ("ipvs.scheduler", "--ipvs-scheduler"),
    ("ipvs.syncPeriod", "--ipvs-sync-period"),
    ("ipvs.tcpFinTimeout", "--ipvs-tcpfin-timeout"),
    ("ipvs.tcpTimeout", "--ipvs-tcp-timeout"),
    ("ipvs.udpTimeout", "--ipvs-udp-timeout"),
    ("logging.format", "--logging-format"),
    ("logging.vmodule", "--vmodule"),
    ("metricsBindAddress", "--metrics-bind-address"),
    ("mode", "--proxy-mode"),
    // Flags speak for both.
    ("nftables.masqueradeBit", "--iptables-masquerade-bit"),
    ("nftables.minSyncPeriod", "--iptables-min-sync-period"),
    ("nftables.syncPeriod", "--iptables-sync-period"),
    ("nodePortAddresses", "--nodeport-addresses"),
    ("oomScoreAdj", "--oom-score-adj"),
];

/// The flag that stands for a field; the field itself if there is none.
pub(crate) fn flag(field: &'static str) -> &'static str {
    FLAGS.iter().find(|(known, _)| *known == field).map_or(field, |(_, flag)| flag)
}

/// A gate and whether it is open; nothing between two commas.
type Gate = Option<(String, bool)>;

/// What a configuration file can say as well.
#[derive(Args, Clone, Debug)]
pub struct ConfiguredFlags {
    /// How to reach the Kubernetes API and who to be there [default: the pod's service account].
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub kubeconfig: String,

    /// Accepted: answers of the API server are asked for as JSON, which can be read piece by piece.
    #[arg(long, value_name = "TYPE", default_value = "application/vnd.kubernetes.protobuf")]
    #[arg(hide_short_help = true, hide_default_value = true, help_heading = SOURCE)]
    pub kube_api_content_type: String,

    /// Accepted: there are only four requests to hold back, and a wait after each failure.
    #[arg(long, value_name = "N", default_value_t = 10, hide_short_help = true, help_heading = SOURCE)]
    #[arg(allow_negative_numbers = true)]
    pub kube_api_burst: i32,

    /// As --kube-api-burst.
    #[arg(long, value_name = "N", default_value_t = 5.0, hide_short_help = true, help_heading = SOURCE)]
    pub kube_api_qps: f32,

    /// Accepted: what was missed is noticed and asked for at once.
    #[arg(long, value_name = "DURATION", default_value = "15m", hide_short_help = true, help_heading = SOURCE)]
    pub config_sync_period: GoDuration,

    /// How to program the node: nftables, iptables, ipvs, or userspace, which carries connections itself [default:
    /// nftables].
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true, help_heading = KERNEL)]
    pub proxy_mode: String,

    /// Bit of the packet mark that asks for masquerading, 0 to 31, in every mode.
    #[arg(long, value_name = "BIT", default_value_t = 14, allow_negative_numbers = true, help_heading = KERNEL)]
    pub iptables_masquerade_bit: i32,

    /// In iptables mode, let node ports answer on 127.0.0.1 too (sets net.ipv4.conf.all.route_localnet=1) [default:
    /// true].
    #[arg(long, value_name = "BOOL", help_heading = KERNEL)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub iptables_localhost_nodeports: bool,

    /// Of the process, -1000 to 1000: how soon the kernel kills it when memory is short.
    #[arg(long, value_name = "N", default_value_t = -999, allow_negative_numbers = true, help_heading = KERNEL)]
    pub oom_score_adj: i32,

    /// What conntrack is told.
    #[command(flatten)]
    pub conntrack: ConntrackFlags,

    /// What only ipvs mode asks.
    #[command(flatten)]
    pub ipvs: IpvsFlags,

    /// Name of this node in the cluster [default: the host name, lower-cased]. Counts with --config too.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, help_heading = NODE)]
    pub hostname_override: String,

    /// Address of this node; a specific one overrides the Node object's.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", help_heading = NODE)]
    pub bind_address: String,

    /// On which addresses of this node node ports answer: a comma-separated list of CIDRs, or the single word
    /// `primary` for the Node's own addresses [default: primary; every address in iptables and ipvs mode].
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', help_heading = NODE)]
    pub nodeport_addresses: Vec<String>,

    /// Masquerade all traffic that is sent to a ClusterIP.
    #[arg(long, value_name = "BOOL", help_heading = TRAFFIC)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub masquerade_all: bool,

    /// The pods' CIDR, or one of each family separated by a comma: traffic to a ClusterIP from elsewhere is
    /// masqueraded.
    #[arg(long, value_name = "CIDRS", default_value = "", hide_default_value = true, help_heading = TRAFFIC)]
    pub cluster_cidr: String,

    /// How to tell traffic of this node's pods: by source address within --cluster-cidr (ClusterCIDR) or within the Node
    /// object's podCIDRs (NodeCIDR), or by the interface that a packet came in on (BridgeInterface, InterfaceNamePrefix)
    /// [default: ClusterCIDR].
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true, help_heading = TRAFFIC)]
    pub detect_local_mode: String,

    /// Bridge that pods are joined to, for --detect-local-mode=BridgeInterface.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, help_heading = TRAFFIC)]
    pub pod_bridge_interface: String,

    /// How the names of pods' interfaces begin, for --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true, help_heading = TRAFFIC)]
    pub pod_interface_name_prefix: String,

    /// A change that cannot be programmed for twice this long makes /healthz and /livez answer 503. In nftables and
    /// userspace mode too.
    #[arg(long, value_name = "DURATION", default_value = "30s", help_heading = SYNC)]
    pub iptables_sync_period: GoDuration,

    /// Changes are programmed no sooner than this after the last ones; 0s for at once. In nftables and userspace mode
    /// too.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = SYNC)]
    pub iptables_min_sync_period: GoDuration,

    /// Where /healthz and /livez are answered [default: `0.0.0.0:10256`, or `[::]:10256` if --bind-address is of IPv6];
    /// empty for nowhere.
    #[arg(long, value_name = "IP:PORT", help_heading = TELEMETRY)]
    pub healthz_bind_address: Option<String>,

    /// Where /metrics and what else tells of the process are answered [default: `127.0.0.1:10249`, or `[::1]:10249`]; empty
    /// for nowhere.
    #[arg(long, value_name = "IP:PORT", help_heading = TELEMETRY)]
    pub metrics_bind_address: Option<String>,

    /// The port of --healthz-bind-address where that has none; 0 for nowhere. Deprecated.
    #[arg(long, value_name = "PORT", hide_short_help = true, help_heading = TELEMETRY)]
    pub healthz_port: Option<u16>,

    /// The port of --metrics-bind-address where that has none; 0 for nowhere. Deprecated.
    #[arg(long, value_name = "PORT", hide_short_help = true, help_heading = TELEMETRY)]
    pub metrics_port: Option<u16>,

    /// End with an error if an address to answer at is taken, in place of trying on.
    #[arg(long, value_name = "BOOL", help_heading = TELEMETRY)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub bind_address_hard_fail: bool,

    /// Accepted: there is no Go profile to show.
    #[arg(long, value_name = "BOOL", hide_short_help = true, help_heading = TELEMETRY)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub profiling: bool,

    /// Accepted: no metric is hidden.
    #[arg(long, value_name = "VERSION", default_value = "", hide_short_help = true)]
    #[arg(hide_default_value = true, help_heading = TELEMETRY)]
    pub show_hidden_metrics_for_version: String,

    /// Accepted, as NAME=BOOL,NAME=BOOL: kube-proxy's gates open nothing here.
    #[arg(long, value_name = "GATES", value_delimiter = ',', value_parser = gate)]
    #[arg(hide_short_help = true, help_heading = OTHER)]
    pub feature_gates: Vec<Gate>,
}

impl ConfiguredFlags {
    /// The configuration file that says the same. Logs have flags of their own.
    #[must_use]
    pub fn configuration(&self) -> KubeProxyConfiguration {
        let mut configuration = KubeProxyConfiguration {
            bind_address: self.bind_address.clone(),
            bind_address_hard_fail: self.bind_address_hard_fail,
            cluster_cidr: self.cluster_cidr.clone(),
            config_sync_period: self.config_sync_period,
            detect_local_mode: self.detect_local_mode.clone(),
            enable_profiling: self.profiling,
            feature_gates: self.feature_gates.iter().flatten().cloned().collect(),
            hostname_override: self.hostname_override.clone(),
            mode: self.proxy_mode.clone(),
            node_port_addresses: said(&self.nodeport_addresses),
            oom_score_adj: self.oom_score_adj,
            show_hidden_metrics_for_version: self.show_hidden_metrics_for_version.clone(),
            ..KubeProxyConfiguration::default()
        };
        configuration.client_connection.kubeconfig.clone_from(&self.kubeconfig);
        configuration.client_connection.content_type.clone_from(&self.kube_api_content_type);
        configuration.client_connection.burst = self.kube_api_burst;
        configuration.client_connection.qps = self.kube_api_qps;
        configuration.detect_local.bridge_interface.clone_from(&self.pod_bridge_interface);
        configuration.detect_local.interface_name_prefix.clone_from(&self.pod_interface_name_prefix);
        configuration.iptables.localhost_node_ports = self.iptables_localhost_nodeports;
        configuration.iptables.masquerade_all = self.masquerade_all;
        configuration.nftables.masquerade_all = self.masquerade_all;
        configuration.iptables.masquerade_bit = self.iptables_masquerade_bit;
        configuration.nftables.masquerade_bit = self.iptables_masquerade_bit;
        configuration.iptables.sync_period = self.iptables_sync_period;
        configuration.nftables.sync_period = self.iptables_sync_period;
        configuration.iptables.min_sync_period = self.iptables_min_sync_period;
        configuration.nftables.min_sync_period = self.iptables_min_sync_period;
        configuration.ipvs = self.ipvs.configuration();
        configuration.conntrack = self.conntrack.configuration();
        let ipv6 = self.bind_address.contains(':');
        let any = if ipv6 { "[::]" } else { "0.0.0.0" };
        configuration.healthz_bind_address =
            address(self.healthz_bind_address.as_deref(), any, self.healthz_port, 10256);
        let loopback = if ipv6 { "[::1]" } else { "127.0.0.1" };
        configuration.metrics_bind_address =
            address(self.metrics_bind_address.as_deref(), loopback, self.metrics_port, 10249);
        configuration
    }
}

/// An address to answer at, of a flag and of the deprecated one for the port; empty for nowhere.
fn address(given: Option<&str>, default: &str, port: Option<u16>, usual: u16) -> String {
    match (given, port) {
        (_, Some(0)) | (Some(""), _) => String::new(),
        (Some(address), None) => address.to_owned(),
        (Some(address), Some(port)) => match address.parse() {
            Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
            // It has a port.
            Err(_) => address.to_owned(),
        },
        (None, port) => format!("{default}:{}", port.unwrap_or(usual)),
    }
}

fn gate(text: &str) -> Result<Gate, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is not NAME=true or NAME=false");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok(Some((name.trim().to_owned(), boolean(value.trim()).map_err(|_| wrong())?)))
}

/// The items of a list that are more than blanks: templates leave such.
pub(super) fn said(items: &[String]) -> Vec<String> {
    items.iter().filter(|item| !item.trim().is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn configuration(args: &[&str]) -> KubeProxyConfiguration {
        let args = std::iter::once("pointsman").chain(args.iter().copied()).map(Into::into);
        Cli::read(args).unwrap().configured.configuration()
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(configuration(&[]), KubeProxyConfiguration::default());
    }

    #[test]
    fn every_flag_that_errors_name_is_there_and_every_field() {
        use clap::CommandFactory;
        let command = Cli::command();
        let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let fields = serde_json::to_value(KubeProxyConfiguration::default()).unwrap();
        for (field, flag) in FLAGS {
            assert!(known.contains(&flag.trim_start_matches("--")), "{flag}");
            let pointer = format!("/{}", field.replace('.', "/"));
            assert!(fields.pointer(&pointer).is_some(), "{field}");
        }
    }

    #[test]
    fn addresses_follow_the_family_and_the_deprecated_ports() {
        let of = |args: &[&str]| {
            let configuration = configuration(args);
            (configuration.healthz_bind_address, configuration.metrics_bind_address)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of(&["--bind-address=::"]), pair("[::]:10256", "[::1]:10249"));
        assert_eq!(of(&["--healthz-port=0", "--metrics-bind-address="]), pair("", ""));
        assert_eq!(of(&["--healthz-port=1", "--metrics-port=2"]), pair("0.0.0.0:1", "127.0.0.1:2"));
        let both = ["--healthz-port=1", "--healthz-bind-address=10.0.0.1", "--metrics-bind-address=::"];
        assert_eq!(of(&both), pair("10.0.0.1:1", "::"));
        assert_eq!(of(&["--healthz-port=1", "--healthz-bind-address=10.0.0.1:7"]).0, "10.0.0.1:7");
    }

    #[test]
    fn flags_for_iptables_speak_for_nftables_too() {
        let flags = ["--iptables-min-sync-period=2s", "--iptables-masquerade-bit=3", "--masquerade-all"];
        let configuration = configuration(&flags);
        assert_eq!(configuration.nftables.min_sync_period, GoDuration::from_secs(2));
        assert_eq!((configuration.nftables.masquerade_bit, configuration.nftables.masquerade_all), (3, true));
        assert_eq!(configuration.ipvs.min_sync_period, GoDuration::default());
    }

    #[test]
    fn gates_are_names_with_truth_values() {
        let gates = configuration(&["--feature-gates=A=true,B=false,"]).feature_gates;
        assert_eq!(gates, [("A".to_owned(), true), ("B".to_owned(), false)].into());
        let empty = ["--feature-gates=", "--nodeport-addresses=", "--ipvs-exclude-cidrs="];
        assert_eq!(configuration(&empty), KubeProxyConfiguration::default());
        assert!(gate("A").is_err() && gate("A=perhaps").is_err());
    }
}
