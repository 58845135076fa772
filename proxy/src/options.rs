//! What the command line asks for, checked and worked out.

use std::fmt;
use std::path::PathBuf;

use endpoint_cache::Family;
use ipnet::IpNet;
use modes::userspace::captured::{BORROWED, LED_BACK};
use modes::{DetectLocal, NodePortAddresses, Settings};

use crate::cli::{self, Cli, DetectLocalMode};
use crate::mode::ModeName;
use crate::source::kubernetes::Access;

/// Why a command line whose every flag is readable makes no sense as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// More than one CIDR of a family.
    #[error("--cluster-cidr takes at most one CIDR of each family, and got two of {0}")]
    ClusterCidrFamily(Family),
    /// A mode that needs another flag.
    #[error("--detect-local-mode={mode} needs {flag}")]
    Missing {
        /// The word of `--detect-local-mode`.
        mode: &'static str,
        /// The flag that is missing or empty.
        flag: &'static str,
    },
    /// `primary` among CIDRs.
    #[error("--nodeport-addresses takes either CIDRs or the single word primary, not both")]
    PrimaryAndCidrs,
    /// Not a CIDR.
    #[error("--nodeport-addresses: {0}")]
    NodePortAddress(String),
    /// No name is left.
    #[error("the node has a blank name: give its name in the cluster with --hostname-override")]
    BlankHostname,
    /// A bit of the mark that is taken.
    #[error(
        "--iptables-masquerade-bit={0} is taken in userspace mode, which marks packets with bits 12 and 13"
    )]
    TakenBit(u8),
    /// The host has no name to go by.
    #[error("cannot read the host name: {0}; give --hostname-override")]
    NoHostname(nix::Error),
}

/// What the modes are told.
///
/// # Errors
/// When flags contradict each other.
pub fn settings(cli: &Cli) -> Result<Settings, Invalid> {
    let bit = cli.iptables_masquerade_bit;
    if cli.proxy_mode == ModeName::Userspace && matches!(1 << bit, BORROWED | LED_BACK) {
        return Err(Invalid::TakenBit(bit));
    }
    Ok(Settings {
        masquerade_bit: cli.iptables_masquerade_bit,
        masquerade_all: cli.masquerade_all,
        localhost_node_ports: cli.iptables_localhost_nodeports,
        detect_local: detect_local(cli)?,
        node_port_addresses: node_port_addresses(&cli.nodeport_addresses)?,
        node_address: Some(cli.bind_address).filter(|address| !address.is_unspecified()),
        ..Settings::default()
    })
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

/// Where objects are to come from: a folder if one is given, else an API server.
pub(crate) fn origin(cli: &Cli) -> Origin {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    match &cli.manifests {
        Some(path) => Origin::Manifests(path.clone()),
        None => {
            let kubeconfig = given(&cli.kubeconfig).map(PathBuf::from);
            Origin::Kubernetes(Access::of(kubeconfig, given(&cli.master)))
        }
    }
}

/// The node's name in the cluster, as kube-proxy makes it: lower case, no blanks around.
///
/// # Errors
/// When `--hostname-override` is blank, or the host has no readable name.
pub fn node_name(cli: &Cli) -> Result<String, Invalid> {
    let name = match &cli.hostname_override {
        Some(name) if !name.is_empty() => name.clone(),
        _ => nix::unistd::gethostname().map_err(Invalid::NoHostname)?.to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() { Err(Invalid::BlankHostname) } else { Ok(name) }
}

fn detect_local(cli: &Cli) -> Result<DetectLocal, Invalid> {
    let needed = |value: &Option<String>, mode, flag| {
        value.clone().filter(|name| !name.is_empty()).ok_or(Invalid::Missing { mode, flag })
    };
    match cli.detect_local_mode {
        DetectLocalMode::ClusterCidr => Ok(DetectLocal::ClusterCidr(one_per_family(&cli.cluster_cidr.0)?)),
        DetectLocalMode::NodeCidr => Ok(DetectLocal::NodeCidr),
        DetectLocalMode::BridgeInterface => {
            needed(&cli.pod_bridge_interface, "BridgeInterface", "--pod-bridge-interface")
                .map(DetectLocal::BridgeInterface)
        }
        DetectLocalMode::InterfaceNamePrefix => {
            needed(&cli.pod_interface_name_prefix, "InterfaceNamePrefix", "--pod-interface-name-prefix")
                .map(DetectLocal::InterfaceNamePrefix)
        }
    }
}

fn one_per_family(cidrs: &[IpNet]) -> Result<Vec<IpNet>, Invalid> {
    for family in [Family::V4, Family::V6] {
        if cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).count() > 1 {
            return Err(Invalid::ClusterCidrFamily(family));
        }
    }
    Ok(cidrs.to_vec())
}

fn node_port_addresses(words: &[String]) -> Result<NodePortAddresses, Invalid> {
    let words: Vec<&str> = words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).collect();
    match &*words {
        [] => Ok(NodePortAddresses::Default),
        ["primary"] => Ok(NodePortAddresses::Primary),
        _ if words.contains(&"primary") => Err(Invalid::PrimaryAndCidrs),
        _ => {
            let cidrs: Result<_, _> = words.iter().map(|word| cli::cidr(word)).collect();
            cidrs.map(NodePortAddresses::Cidrs).map_err(Invalid::NodePortAddress)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(args: &[&str]) -> Cli {
        Cli::read(std::iter::once("pointsman").chain(args.iter().copied()).map(Into::into)).unwrap()
    }

    #[test]
    fn no_flags_mean_the_defaults() {
        assert_eq!(settings(&cli(&[])), Ok(Settings::default()));
    }

    #[test]
    fn a_specific_bind_address_is_the_node_address() {
        assert_eq!(settings(&cli(&["--bind-address=::"])).unwrap().node_address, None);
        let address = settings(&cli(&["--bind-address=192.0.2.1"])).unwrap().node_address;
        assert_eq!(address, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn bits_that_userspace_mode_marks_with_are_its_own() {
        for (bit, taken) in [(11, false), (12, true), (13, true), (14, false)] {
            let flag = format!("--iptables-masquerade-bit={bit}");
            assert_eq!(settings(&cli(&[&flag, "--proxy-mode=userspace"])).is_err(), taken, "{bit}");
            assert!(settings(&cli(&[&flag])).is_ok());
        }
    }

    #[test]
    fn cluster_cidrs_are_one_per_family() {
        let both = settings(&cli(&["--cluster-cidr=10.0.0.0/8,fd00::/8"])).unwrap();
        let expected = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        assert_eq!(both.detect_local, DetectLocal::ClusterCidr(expected));
        let twice = settings(&cli(&["--cluster-cidr=10.0.0.0/8,11.0.0.0/8"]));
        assert_eq!(twice, Err(Invalid::ClusterCidrFamily(Family::V4)));
    }

    #[test]
    fn interface_modes_need_their_names() {
        for (mode, flag) in [
            ("BridgeInterface", "--pod-bridge-interface"),
            ("InterfaceNamePrefix", "--pod-interface-name-prefix"),
        ] {
            let mode_flag = format!("--detect-local-mode={mode}");
            for args in [vec![&*mode_flag], vec![&*mode_flag, flag, ""]] {
                let error = settings(&cli(&args)).unwrap_err().to_string();
                assert!(error.contains(flag), "{error}");
            }
            assert!(settings(&cli(&[&mode_flag, flag, "cni0"])).is_ok());
        }
    }

    #[test]
    fn node_port_addresses_are_cidrs_or_primary() {
        let of =
            |words: &str| settings(&cli(&["--nodeport-addresses", words])).map(|s| s.node_port_addresses);
        assert_eq!(of(""), Ok(NodePortAddresses::Default));
        assert_eq!(of("primary"), Ok(NodePortAddresses::Primary));
        assert_eq!(of("10.1.2.3/8"), Ok(NodePortAddresses::Cidrs(vec!["10.0.0.0/8".parse().unwrap()])));
        assert_eq!(of("primary,10.0.0.0/8"), Err(Invalid::PrimaryAndCidrs));
        assert!(
            matches!(of("10.0.0.1"), Err(Invalid::NodePortAddress(reason)) if reason.contains("10.0.0.1"))
        );
    }

    #[test]
    fn objects_come_from_a_folder_or_an_api_server() {
        let of = |args: &[&str]| origin(&cli(args)).to_string();
        assert_eq!(of(&["--manifests=/m", "--kubeconfig=/k"]), "manifests /m");
        assert_eq!(of(&["--kubeconfig=/k"]), "kubeconfig /k");
        assert_eq!(of(&["--kubeconfig=/k", "--master=https://a"]), "kubeconfig /k at https://a");
        assert_eq!(of(&["--master=https://a"]), "https://a");
        assert_eq!(of(&["--kubeconfig=", "--master="]), "the pod's service account");
    }

    #[test]
    fn the_node_name_is_lower_case_and_trimmed() {
        assert_eq!(node_name(&cli(&["--hostname-override", " Node-A "])).unwrap(), "node-a");
        assert_eq!(node_name(&cli(&["--hostname-override", " "])), Err(Invalid::BlankHostname));
        let own = node_name(&cli(&[])).unwrap();
        assert_eq!(own, own.to_lowercase());
        assert_eq!(node_name(&cli(&["--hostname-override="])), Ok(own));
    }
}
