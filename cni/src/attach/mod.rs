//! A pod's interface: made, checked and removed.
//!
//! A veth pair joins the pod to its node. What is at the node's end depends on the [`DataPath`]:
//!
//! - **Routed.** The pod has its addresses alone (/32, /128), and one way out: a gateway that no device has as an address,
//!   169.254.1.1 and fe80::1. Both ends know each other's hardware address for good, so nobody ever asks for one, and
//!   there is no ARP to spoof. The node has a route to each address. Pods on a node speak by way of the node's own
//!   forwarding, where policies see every packet.
//! - **Bridge.** The node's end is a port of a bridge that has the range's gateway as its address.
//!
//! What holds for both:
//!
//! - **The name of the node's end is derived** from container and interface ([`host_interface_name`]), and the pair is
//!   made by one message, with its other end in the pod's namespace under its final name: whenever we are killed, what
//!   there is can be found, and to remove the node's end removes all but what is told below.
//! - **It works when [`add`] returns.** The kernel finishes some things later, by workers: the carrier of the end that
//!   came up first, the state of a bridge's port, the route of an IPv6 address. They are awaited.
//! - **Hardware addresses are derived, too**: of the pod's end from its address, so that whoever gets the address next is
//!   not looked for at a device that is gone; of the others from their names, so that udev leaves them alone.
//! - To [`remove`] takes neither the pod's namespace nor that anything is left. Ports of the node ([`PortMapping`]) are
//!   entries of a table of ours, by their owner; what limits what a pod sends is a device of its own.

mod bandwidth;
mod bridge;
mod check;
mod error;
mod forwarding;
mod make;
mod names;
mod pod;
mod ports;
mod settle;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use check::check;
pub use error::Error;
pub use make::{add, remove};
pub use names::host_interface_name;
pub use ports::remove_all_ports;

/// What was made, as the result of the plugin tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The bridge, in bridge mode.
    pub bridge: Option<Interface>,
    /// The node's end.
    pub host: Interface,
    /// The pod's end.
    pub pod: Interface,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

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
    /// By what they do.
    #[serde(default)]
    pub port_mapper: PortMapper,
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

/// By what ports of the node lead to pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortMapper {
    /// nftables if the kernel has it, else iptables.
    #[default]
    Auto,
    /// A table of ours, `inet pointsman-hostport`.
    Nftables,
    /// Chains of ours, `PM-HOSTPORTS` and `PM-HAIRPINS`, of whichever iptables the node uses.
    Iptables,
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
