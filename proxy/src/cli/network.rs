//! Flags of the pod network.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cni::network::{Backend, BgpPeer, BgpSettings, Interface, MasqueradeSettings, PUBLISHED_FILE, Settings};
use endpoint_cache::Family;
use ipnet::IpNet;

use super::Switch;

/// What help texts have these flags under.
pub(super) const HEADING: &str = "Pod network";

/// Where container runtimes look for how pods are joined.
pub(crate) const CONFLIST: &str = "/etc/cni/net.d/10-pointsman.conflist";
/// Where a new pod waits until its policies are in force.
pub(crate) const GATE: &str = "/run/pointsman/cni.sock";

/// How pods get their network.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct NetworkFlags {
    /// Give pods their network: nodes reach each other's pods by VXLAN, by plain routes to nodes on the same link
    /// (host-gw; by VXLAN to others), or by routes that BIRD publishes and learns (bgp). Off, nothing of it is touched.
    #[arg(long, value_name = "WAY", value_enum, default_value = "off", help_heading = HEADING)]
    pub pod_network: NetworkWord,

    /// How pods are joined to this node.
    #[arg(long, value_name = "WAY", value_enum, default_value = "routed", help_heading = HEADING)]
    pub pod_network_data_path: DataPathWord,

    /// The ranges of all pods' addresses, which every Node's podCIDRs must be within [default: --cluster-cidr].
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', value_parser = cidr, help_heading = HEADING)]
    pub pod_network_cidrs: Vec<Option<IpNet>>,

    /// Bytes of the largest packet that the network between nodes carries [default: as the device there has it].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    #[arg(help_heading = HEADING)]
    pub pod_network_mtu: Option<u32>,

    /// The device that leads to the other nodes, by its name or its address [default: the one that has the Node's
    /// InternalIP].
    #[arg(long, value_name = "NAME|IP", group = "pod-network-device", help_heading = HEADING)]
    pub pod_network_iface: Option<String>,

    /// The same, by a regular expression that its name or one of its addresses matches.
    #[arg(long, value_name = "REGEX", group = "pod-network-device", help_heading = HEADING)]
    pub pod_network_iface_regex: Option<String>,

    /// The same, by an address that packets to leave by it.
    #[arg(long, value_name = "IP", group = "pod-network-device", help_heading = HEADING)]
    pub pod_network_iface_can_reach: Option<IpAddr>,

    /// With --pod-network vxlan, reach nodes on the same link without a tunnel.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "off", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub pod_network_direct_routing: Switch,

    /// VXLAN's number of the network, as all nodes have it.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = HEADING)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=0x00ff_ffff))]
    pub pod_network_vni: u32,

    /// VXLAN's UDP port, as all nodes have it.
    #[arg(long, value_name = "PORT", default_value_t = 8472, help_heading = HEADING)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub pod_network_port: u16,

    /// Give what pods send out of the cluster this node's address.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "on", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub pod_network_masquerade: Switch,

    /// Ranges besides the pods' own that pods reach under their own addresses.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', value_parser = cidr, help_heading = HEADING)]
    pub pod_network_non_masquerade_cidrs: Vec<Option<IpNet>>,

    /// Give what pods send to link-local addresses this node's address too.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "off", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub pod_network_masquerade_link_local: Switch,

    /// With --pod-network bgp, number of the nodes' autonomous system.
    #[arg(long, value_name = "NUMBER", default_value_t = 64512, help_heading = HEADING)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub pod_network_bgp_as: u32,

    /// With --pod-network bgp, routers that every node speaks to, such as the top of the rack, each with the number of
    /// its autonomous system: 192.0.2.1@64513.
    #[arg(long, value_name = "IP@NUMBER", value_delimiter = ',', value_parser = peer, help_heading = HEADING)]
    pub pod_network_bgp_peers: Vec<Option<BgpPeer>>,

    /// With --pod-network bgp, have all nodes on a link speak to each other.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "on", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub pod_network_bgp_mesh: Switch,

    /// BIRD 2's program.
    #[arg(long, value_name = "PATH", default_value = "bird", help_heading = HEADING)]
    pub pod_network_bird: PathBuf,

    /// What a new pod meets whose policies are not in force in time: closed, it does not start; open, it starts with a
    /// warning; off, it does not wait.
    #[arg(long, value_name = "WAY", value_enum, default_value = "closed", help_heading = HEADING)]
    pub pod_network_gate: GateWord,

    /// The configuration that container runtimes find us by; written once the network is ready, and there until
    /// --cleanup. Empty: not written.
    #[arg(long, value_name = "FILE", default_value = CONFLIST, help_heading = HEADING)]
    pub pod_network_cni_config: String,

    /// Where this process tells the CNI plugin of the network, as long as it is ready.
    #[arg(long, value_name = "FILE", default_value = PUBLISHED_FILE, help_heading = HEADING)]
    pub pod_network_file: PathBuf,

    /// With --init-only, put the CNI plugins there, which are beside this program.
    #[arg(long, value_name = "FOLDER", help_heading = HEADING)]
    pub pod_network_install: Option<PathBuf>,

    /// Unix socket at which the CNI plugin waits until a new pod's policies are in force.
    #[arg(long, value_name = "PATH", default_value = GATE, help_heading = HEADING)]
    pub pod_network_gate_socket: PathBuf,
}

/// Words of `--pod-network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkWord {
    /// Somebody else does
    Off,
    /// In UDP packets between nodes
    Vxlan,
    /// By plain routes
    HostGw,
    /// By routes that BIRD publishes and learns
    Bgp,
}

/// Words of `--pod-network-data-path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataPathWord {
    /// A route to each
    Routed,
    /// A bridge that they are all joined to
    Bridge,
}

/// Words of `--pod-network-gate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GateWord {
    /// It does not start
    Closed,
    /// It starts, with a warning
    Open,
    /// It does not wait
    Off,
}

impl NetworkWord {
    /// What joins the nodes; nothing if somebody else does.
    #[must_use]
    pub fn backend(self) -> Option<Backend> {
        match self {
            Self::Off => None,
            Self::Vxlan => Some(Backend::Vxlan),
            Self::HostGw => Some(Backend::HostGw),
            Self::Bgp => Some(Backend::Bgp),
        }
    }
}

impl DataPathWord {
    /// As the plugin's configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Bridge => "bridge",
        }
    }
}

impl GateWord {
    /// As the plugin's configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Off => "off",
        }
    }
}

impl NetworkFlags {
    /// What is asked for, on a node with these families, of a cluster whose pods have addresses in these ranges unless the
    /// flags say others. Nothing without a pod network.
    #[must_use]
    pub fn settings(&self, families: Vec<Family>, cluster_cidrs: &[IpNet]) -> Option<Settings> {
        let given: Vec<IpNet> = self.pod_network_cidrs.iter().copied().flatten().collect();
        let cluster_cidrs = if given.is_empty() { cluster_cidrs.to_vec() } else { given };
        let masquerade = MasqueradeSettings {
            exempt: self.pod_network_non_masquerade_cidrs.iter().copied().flatten().collect(),
            link_local: self.pod_network_masquerade_link_local == Switch::On,
            ..MasqueradeSettings::default()
        };
        Some(Settings {
            backend: self.pod_network.backend()?,
            families,
            direct_routing: self.pod_network_direct_routing == Switch::On,
            cluster_cidrs,
            vni: self.pod_network_vni,
            port: self.pod_network_port,
            mtu: self.pod_network_mtu,
            interface: self.interface(),
            masquerade: Some(masquerade).filter(|_| self.pod_network_masquerade == Switch::On),
            bgp: BgpSettings {
                autonomous_system: self.pod_network_bgp_as,
                mesh: self.pod_network_bgp_mesh == Switch::On,
                peers: self.pod_network_bgp_peers.iter().copied().flatten().collect(),
            },
        })
    }

    fn interface(&self) -> Interface {
        if let Some(name) = &self.pod_network_iface {
            Interface::Named(name.clone())
        } else if let Some(pattern) = &self.pod_network_iface_regex {
            Interface::Matching(pattern.clone())
        } else if let Some(address) = self.pod_network_iface_can_reach {
            Interface::Reaching(address)
        } else {
            Interface::Auto
        }
    }
}

/// A range; nothing between two commas, which templates leave.
fn cidr(text: &str) -> Result<Option<IpNet>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpNet>() {
        Ok(range) if range == range.trunc() => Ok(Some(range)),
        Ok(range) => Err(format!("{text} has bits beyond its length: write {}", range.trunc())),
        Err(_) => Err(format!("{text:?} is no range such as 10.244.0.0/16")),
    }
}

/// A router and its autonomous system; nothing between two commas.
fn peer(text: &str) -> Result<Option<BgpPeer>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let read = text.split_once('@').and_then(|(address, number)| {
        let autonomous_system = number.parse().ok().filter(|number| *number > 0)?;
        Some(BgpPeer { address: address.parse().ok()?, autonomous_system })
    });
    read.map(Some).ok_or_else(|| format!("{text:?} is no router such as 192.0.2.1@64513"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, one_line};

    fn flags(args: &[&str]) -> Result<NetworkFlags, String> {
        let args = std::iter::once("pointsman").chain(args.iter().copied()).map(Into::into);
        Cli::read(args).map(|cli| cli.network).map_err(|error| one_line(&error))
    }

    fn settings(args: &[&str]) -> Settings {
        let all = [&["--pod-network=vxlan"], args].concat();
        flags(&all).unwrap().settings(Family::BOTH.to_vec(), &[]).unwrap()
    }

    #[test]
    fn without_flags_there_is_none_and_with_one_it_is_as_flannels() {
        let none = flags(&[]).unwrap();
        assert_eq!(none.settings(Family::BOTH.to_vec(), &[]), None);
        assert_eq!(settings(&[]), Settings::default());
        assert_eq!(settings(&["--pod-network=host-gw"]).backend, Backend::HostGw);
    }

    #[test]
    fn the_clusters_ranges_are_those_of_the_proxy_unless_others_are_given() {
        let cluster = ["10.244.0.0/16".parse().unwrap()];
        let of = |args: &[&str]| {
            let all = [&["--pod-network=bgp"], args].concat();
            flags(&all).unwrap().settings(vec![Family::V4], &cluster).unwrap().cluster_cidrs
        };
        assert_eq!(of(&["--pod-network-cidrs="]), cluster);
        let other: Vec<IpNet> = vec!["10.1.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()];
        assert_eq!(of(&["--pod-network-cidrs=10.1.0.0/16,fd00::/48"]), other);
    }

    #[test]
    fn the_device_is_found_in_one_way() {
        assert_eq!(settings(&["--pod-network-iface=eth1"]).interface, Interface::Named("eth1".to_owned()));
        let by_regex = settings(&["--pod-network-iface-regex=eth.*"]).interface;
        assert_eq!(by_regex, Interface::Matching("eth.*".to_owned()));
        let reaching = settings(&["--pod-network-iface-can-reach=192.0.2.1"]).interface;
        assert_eq!(reaching, Interface::Reaching("192.0.2.1".parse().unwrap()));
        let both = ["--pod-network-iface=eth1", "--pod-network-iface-regex=eth.*"];
        assert!(flags(&both).is_err_and(|error| error.contains("--pod-network-iface")));
    }

    #[test]
    fn what_is_masqueraded_is_said() {
        assert_eq!(settings(&["--pod-network-masquerade=off"]).masquerade, None);
        let given = ["--pod-network-non-masquerade-cidrs=10.0.0.0/8,", "--pod-network-masquerade-link-local"];
        let expected = MasqueradeSettings {
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            link_local: true,
            random_fully: true,
        };
        assert_eq!(settings(&given).masquerade, Some(expected));
    }

    #[test]
    fn routers_have_an_address_and_a_number() {
        let peers = settings(&["--pod-network-bgp-peers=192.0.2.1@64513,fd00::1@4200000000"]).bgp.peers;
        let peer = |address: &str, autonomous_system| BgpPeer {
            address: address.parse().unwrap(),
            autonomous_system,
        };
        assert_eq!(peers, [peer("192.0.2.1", 64513), peer("fd00::1", 4_200_000_000)]);
        for text in ["192.0.2.1", "192.0.2.1@0", "router@1", "192.0.2.1@"] {
            let error = flags(&[&*format!("--pod-network-bgp-peers={text}")]).unwrap_err();
            assert!(error.contains("--pod-network-bgp-peers") && error.contains("@64513"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_flags_name() {
        for (flag, part) in [
            ("--pod-network=carrier-pigeon", "host-gw"),
            ("--pod-network-cidrs=10.0.0.1/8", "10.0.0.0/8"),
            ("--pod-network-cidrs=pods", "10.244.0.0/16"),
            ("--pod-network-mtu=100", "1280"),
            ("--pod-network-vni=0", "1.."),
            ("--pod-network-port=0", "1.."),
        ] {
            let error = flags(&[flag]).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
    }
}
