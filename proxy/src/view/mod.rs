//! The Services and their endpoints as this node sees them, for the tools that show them to people: `get`, `explain`,
//! `trace` and the status page.

mod asking;
mod build;
pub(crate) mod client;
mod count;
mod explain;
pub(crate) mod frontend;
mod get;
pub(crate) mod lookup;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(crate) use asking::Desk;
pub(crate) use build::view;
pub(crate) use explain::explain;
pub(crate) use get::get;

/// Everything that is known, by namespace and name. Fields may be added; readers skip those that they do not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// The node's name.
    pub(crate) node: String,
    /// Its zone, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// The mode that it works in.
    #[serde(default)]
    pub(crate) mode: String,
    /// What was asked of the mode.
    #[serde(default)]
    pub(crate) settings: SettingsView,
    /// Services, by namespace and name.
    pub(crate) services: Vec<ServiceView>,
}

impl View {
    /// Adds a sentence to a Service's problems.
    pub(crate) fn add_problem(&mut self, (namespace, name): (&str, &str), problem: String) {
        let of = |service: &ServiceView| {
            (service.namespace.as_str(), service.name.as_str()).cmp(&(namespace, name))
        };
        if let Ok(at) = self.services.binary_search_by(of) {
            self.services[at].problems.push(problem);
        }
    }
}

/// The settings that decide what becomes of traffic, as the configuration writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingsView {
    /// How traffic of pods is told from other traffic; empty for by `cluster_cidr`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detect_local_mode: String,
    /// Where pods' addresses are; empty if that is not said.
    #[serde(rename = "clusterCIDR", default, skip_serializing_if = "String::is_empty")]
    pub(crate) cluster_cidr: String,
    /// Whether all that is sent to ClusterIPs is masqueraded.
    #[serde(default)]
    pub(crate) masquerade_all: bool,
    /// On which addresses node ports answer: ranges, `primary`, or none for the mode's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) node_port_addresses: Vec<String>,
    /// Whether node ports answer on 127.0.0.1, in modes where they can.
    #[serde(default)]
    pub(crate) localhost_node_ports: bool,
    /// The scheduler of ipvs mode.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ipvs_scheduler: String,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cluster_ips: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) external_ips: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    /// Clients that may use the load-balancer addresses; everybody if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) source_ranges: Vec<IpNet>,
    /// `Cluster` or `Local`.
    pub(crate) internal_traffic_policy: String,
    /// `Cluster` or `Local`.
    pub(crate) external_traffic_policy: String,
    /// How long a client stays with its endpoint, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) affinity_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health_check_node_port: Option<u16>,
    /// `PreferSameZone` or `PreferSameNode`, if it asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traffic_distribution: Option<String>,
    /// Whether endpoints count as ready before they are.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) publish_not_ready_addresses: bool,
    /// Whether connections to endpoints begin with a PROXY protocol header.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) proxy_protocol: bool,
    pub(crate) ports: Vec<PortView>,
    /// Why it is not served, or only in part; a sentence each: headless, refused by the kernel, an unusable field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A port of a Service, with what serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortView {
    /// Empty if it has none.
    pub(crate) name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: String,
    pub(crate) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node_port: Option<u16>,
    /// All there are in EndpointSlices, also those that are not used.
    pub(crate) endpoints: Vec<EndpointView>,
}

/// An endpoint of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointView {
    pub(crate) address: SocketAddr,
    /// The node that it is on, if the slice says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Whether that is this node.
    pub(crate) local: bool,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// The EndpointSlice that names it.
    pub(crate) slice: String,
    /// Whether traffic of policy Cluster may be sent to it from this node.
    pub(crate) used_by_cluster: bool,
    /// Whether traffic of policy Local may.
    pub(crate) used_by_local: bool,
    /// Why it is not used, or not by all, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why_not: Option<String>,
}
