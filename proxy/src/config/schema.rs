//! The fields of `kubeproxy.config.k8s.io/v1alpha1` KubeProxyConfiguration, with kube-proxy v1.36's names and defaults.
//!
//! Values are kept as they are written, so that they can be shown again; [`crate::options`] makes sense of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::duration::{GoDuration, or_nanoseconds};

/// The version that is read and written.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The kind.
pub const KIND: &str = "KubeProxyConfiguration";

/// Everything that kube-proxy's configuration file can say.
///
/// One thing has another default than in kube-proxy: `minSyncPeriod` is 0 in every mode, since a sync costs nothing
/// that would be worth waiting for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are kube-proxy's, and are explained there")]
pub struct KubeProxyConfiguration {
    pub api_version: String,
    pub kind: String,
    pub bind_address: String,
    pub bind_address_hard_fail: bool,
    pub client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub config_sync_period: GoDuration,
    pub conntrack: Conntrack,
    pub detect_local: DetectLocal,
    pub detect_local_mode: String,
    pub enable_profiling: bool,
    pub feature_gates: BTreeMap<String, bool>,
    pub healthz_bind_address: String,
    pub hostname_override: String,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub logging: Logging,
    pub metrics_bind_address: String,
    pub mode: String,
    pub nftables: Nftables,
    pub node_port_addresses: Vec<String>,
    pub oom_score_adj: i32,
    pub port_range: String,
    pub show_hidden_metrics_for_version: String,
    pub windows_run_as_service: bool,
    pub winkernel: Winkernel,
}

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct ClientConnection {
    pub accept_content_types: String,
    pub burst: i32,
    pub content_type: String,
    pub kubeconfig: String,
    pub qps: f32,
}

/// What the kernel's connection tracking is told; 0 leaves alone what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Conntrack {
    pub max_per_core: i32,
    pub min: i32,
    pub tcp_be_liberal: bool,
    pub tcp_close_wait_timeout: GoDuration,
    pub tcp_established_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// What some of the ways to tell pods' traffic need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// iptables mode; the mark and masquerading are ipvs mode's too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Iptables {
    pub localhost_node_ports: bool,
    pub masquerade_all: bool,
    pub masquerade_bit: i32,
    pub min_sync_period: GoDuration,
    pub sync_period: GoDuration,
}

/// ipvs mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Ipvs {
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    pub min_sync_period: GoDuration,
    pub scheduler: String,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub sync_period: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub tcp_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// nftables mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Nftables {
    pub masquerade_all: bool,
    pub masquerade_bit: i32,
    pub min_sync_period: GoDuration,
    pub sync_period: GoDuration,
}

/// Logs (`k8s.io/component-base/logs/api/v1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Logging {
    #[serde(deserialize_with = "or_nanoseconds")]
    pub flush_frequency: GoDuration,
    pub format: String,
    pub options: LogOptions,
    pub verbosity: u32,
    pub vmodule: Vec<VmoduleItem>,
}

/// How much to log of some files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct VmoduleItem {
    pub file_pattern: String,
    pub verbosity: u32,
}

/// What each format of logs may be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct LogOptions {
    pub json: LogRouting,
    pub text: LogRouting,
}

/// Where logs go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct LogRouting {
    /// A `resource.Quantity`: a number or a text.
    pub info_buffer_size: serde_json::Value,
    pub split_stream: bool,
}

/// Windows: accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "as above")]
pub struct Winkernel {
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub forward_health_check_vip: bool,
    pub network_name: String,
    pub root_hns_endpoint_name: String,
    pub source_vip: String,
}

const SYNC_PERIOD: GoDuration = GoDuration::from_secs(30);
const MASQUERADE_BIT: i32 = 14;

impl Default for KubeProxyConfiguration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            bind_address: "0.0.0.0".to_owned(),
            bind_address_hard_fail: false,
            client_connection: ClientConnection::default(),
            cluster_cidr: String::new(),
            config_sync_period: GoDuration::from_secs(15 * 60),
            conntrack: Conntrack::default(),
            detect_local: DetectLocal::default(),
            detect_local_mode: String::new(),
            enable_profiling: false,
            feature_gates: BTreeMap::new(),
            healthz_bind_address: "0.0.0.0:10256".to_owned(),
            hostname_override: String::new(),
            iptables: Iptables::default(),
            ipvs: Ipvs::default(),
            logging: Logging::default(),
            metrics_bind_address: "127.0.0.1:10249".to_owned(),
            mode: String::new(),
            nftables: Nftables::default(),
            node_port_addresses: Vec::new(),
            oom_score_adj: -999,
            port_range: String::new(),
            show_hidden_metrics_for_version: String::new(),
            windows_run_as_service: false,
            winkernel: Winkernel::default(),
        }
    }
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self {
            accept_content_types: String::new(),
            burst: 10,
            content_type: "application/vnd.kubernetes.protobuf".to_owned(),
            kubeconfig: String::new(),
            qps: 5.0,
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_be_liberal: false,
            tcp_close_wait_timeout: GoDuration::from_secs(3600),
            tcp_established_timeout: GoDuration::from_secs(24 * 3600),
            udp_stream_timeout: GoDuration::default(),
            udp_timeout: GoDuration::default(),
        }
    }
}

impl Default for Iptables {
    fn default() -> Self {
        Self {
            localhost_node_ports: true,
            masquerade_all: false,
            masquerade_bit: MASQUERADE_BIT,
            min_sync_period: GoDuration::default(),
            sync_period: SYNC_PERIOD,
        }
    }
}

impl Default for Ipvs {
    fn default() -> Self {
        Self {
            exclude_cidrs: Vec::new(),
            min_sync_period: GoDuration::default(),
            scheduler: String::new(),
            strict_arp: false,
            sync_period: SYNC_PERIOD,
            tcp_fin_timeout: GoDuration::default(),
            tcp_timeout: GoDuration::default(),
            udp_timeout: GoDuration::default(),
        }
    }
}

impl Default for Nftables {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            masquerade_bit: MASQUERADE_BIT,
            min_sync_period: GoDuration::default(),
            sync_period: SYNC_PERIOD,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            flush_frequency: GoDuration::from_secs(5),
            format: "text".to_owned(),
            options: LogOptions::default(),
            verbosity: 0,
            vmodule: Vec::new(),
        }
    }
}

impl Default for LogRouting {
    fn default() -> Self {
        Self { info_buffer_size: "0".into(), split_stream: false }
    }
}

impl KubeProxyConfiguration {
    /// Puts the defaults where a file says nothing in kube-proxy's eyes: empty texts and periods of no length. (Nulls
    /// are left out before.)
    pub(super) fn complete(&mut self) {
        let default = Self::default();
        let text = |text: &mut String, default: String| {
            if text.trim().is_empty() {
                *text = default;
            }
        };
        let period = |period: &mut GoDuration, default: GoDuration| {
            if period.is_zero() {
                *period = default;
            }
        };
        text(&mut self.bind_address, default.bind_address);
        let ipv6 = self.bind_address.contains(':');
        let any = if ipv6 { "[::]:10256" } else { "0.0.0.0:10256" };
        text(&mut self.healthz_bind_address, any.to_owned());
        let loopback = if ipv6 { "[::1]:10249" } else { "127.0.0.1:10249" };
        text(&mut self.metrics_bind_address, loopback.to_owned());
        text(&mut self.client_connection.content_type, default.client_connection.content_type);
        text(&mut self.logging.format, default.logging.format);
        if self.client_connection.burst == 0 {
            self.client_connection.burst = default.client_connection.burst;
        }
        if self.client_connection.qps == 0.0 {
            self.client_connection.qps = default.client_connection.qps;
        }
        period(&mut self.config_sync_period, default.config_sync_period);
        period(&mut self.iptables.sync_period, SYNC_PERIOD);
        period(&mut self.ipvs.sync_period, SYNC_PERIOD);
        period(&mut self.nftables.sync_period, SYNC_PERIOD);
        period(&mut self.logging.flush_frequency, default.logging.flush_frequency);
    }
}
