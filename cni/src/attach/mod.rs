//! A pod's interface: made, checked and removed.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All that an attachment is made of. It is written down before anything is made, and is enough to remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The runtime's name of the container.
    pub container: String,
    /// The interface's name in the pod.
    pub interface: String,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The name of its other end, on the node.
    pub host_interface: String,
    /// How it is joined to the node.
    pub path: DataPath,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// The interface's hardware address, if it is to be a certain one.
    pub mac: Option<String>,
    /// Its addresses, at most one a family in routed mode.
    pub addresses: Vec<Assigned>,
    /// Routes in the pod, beside the default route.
    pub routes: Vec<PodRoute>,
    /// Ports of the node that lead to the pod.
    pub ports: Vec<PortMapping>,
    /// How much it may send and receive.
    pub bandwidth: Option<Bandwidth>,
}

/// How a pod is joined to its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum DataPath {
    /// A veth pair with a route to each address and a link-local gateway; no bridge.
    Routed,
    /// A veth pair whose other end is a port of a bridge.
    #[serde(rename_all = "camelCase")]
    Bridge {
        /// The bridge's name.
        name: String,
        /// Whether a pod may reach itself by way of the bridge.
        hairpin: bool,
        /// Whether the bridge takes in everything.
        promiscuous: bool,
    },
}

/// An address of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The address, with the length of its range's prefix.
    pub address: IpNet,
    /// The range's gateway: the bridge's address in bridge mode.
    pub gateway: Option<IpAddr>,
}

/// A route in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRoute {
    /// Where to.
    pub dst: IpNet,
    /// By way of whom; the pod's gateway if it is not said.
    pub gw: Option<IpAddr>,
}

/// A port of the node that leads to a pod (capability `portMappings`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the node.
    pub host_port: u16,
    /// Port of the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in lower case.
    pub protocol: String,
    /// Address of the node, if not every one.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<IpAddr>,
}

/// How much a pod may send and receive (capability `bandwidth`). Rates in bits a second, bursts in bits; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress_rate: u64,
    /// How much of that at once.
    pub ingress_burst: u64,
    /// What the pod sends.
    pub egress_rate: u64,
    /// How much of that at once.
    pub egress_burst: u64,
}
