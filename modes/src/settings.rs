//! What the user chose, for every mode.

use endpoint_cache::Family;
use ipnet::IpNet;

/// Settings shared by the modes; names and defaults are kube-proxy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Program IPv4.
    pub ipv4: bool,
    /// Program IPv6.
    pub ipv6: bool,
    /// Whether NetworkPolicies are enforced (`--network-policy`): in userspace mode, whose address an endpoint is to see is
    /// carried under it, or not at all.
    pub policies: bool,
    /// Bit of the packet mark that asks for masquerading, 0 to 31 (`--iptables-masquerade-bit`).
    pub masquerade_bit: u8,
    /// Masquerade everything sent to a ClusterIP (`--masquerade-all`).
    pub masquerade_all: bool,
    /// How to tell traffic of this node's pods (`--detect-local-mode`).
    pub detect_local: DetectLocal,
    /// On which of the node's addresses node ports answer (`--nodeport-addresses`).
    pub node_port_addresses: NodePortAddresses,
    /// Whether node ports answer on 127.0.0.1 in modes where they can (`--iptables-localhost-nodeports`).
    pub localhost_node_ports: bool,
    /// Address that overrides the Node object's (`--bind-address`, unless unspecified).
    pub node_address: Option<std::net::IpAddr>,
}

impl Settings {
    /// Whether a family is to be programmed.
    #[must_use]
    pub fn enables(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: true,
            policies: false,
            masquerade_bit: 14,
            masquerade_all: false,
            detect_local: DetectLocal::ClusterCidr(Vec::new()),
            node_port_addresses: NodePortAddresses::Default,
            localhost_node_ports: true,
            node_address: None,
        }
    }
}

/// How traffic of this node's pods is told from other traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// By source address: the first range of each family. A family without one cannot tell.
    ClusterCidr(Vec<IpNet>),
    /// By source address within the Node object's `podCIDRs`.
    NodeCidr,
    /// By the interface that a packet came in on.
    BridgeInterface(String),
    /// By the prefix of the interface's name.
    InterfaceNamePrefix(String),
}

/// On which of the node's addresses node ports answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// As the mode has it: the primary address for nftables, every address for iptables.
    Default,
    /// The Node's primary address of each family (`primary`); all while it is unknown.
    Primary,
    /// Local addresses within these ranges; a family without a range answers on all of its addresses.
    Cidrs(Vec<IpNet>),
}
