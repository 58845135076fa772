//! The modes that suites run in.

use crate::bed::Family;
use crate::isolation::Privileges;

/// A way to program a node, as a suite asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What tests call it.
    pub name: &'static str,
    /// The arguments that ask the proxy for it.
    pub args: &'static [&'static str],
    /// What administrators look at its rules with.
    pub tool: Tool,
    /// What its tests must be allowed to do.
    pub privileges: Privileges,
}

/// What rules are listed and changed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `nft`
    Nft,
    /// `iptables` and `ip6tables`
    Iptables(Backend),
    /// `ipvsadm`, `ipset`, `ip`, and `iptables` and `ip6tables` of the back end that is in use
    Ipvs,
}

/// A back end of iptables: where its rules are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Tables of nftables.
    Nft,
    /// The kernel's older tables, replaced whole at every change.
    Legacy,
}

impl Backend {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Nft, Self::Legacy];

    /// As `--iptables-backend` and the programs' names have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }
}

/// The nftables mode.
pub const NFTABLES: Mode = Mode {
    name: "nftables",
    args: &["--proxy-mode", "nftables"],
    tool: Tool::Nft,
    privileges: Privileges::Namespace,
};

/// The iptables mode, on the back end that keeps its rules in nftables.
pub const IPTABLES_NFT: Mode = Mode {
    name: "iptables-nft",
    args: &["--proxy-mode", "iptables", "--iptables-backend", "nft"],
    tool: Tool::Iptables(Backend::Nft),
    privileges: Privileges::Namespace,
};

/// The iptables mode, on the older back end.
pub const IPTABLES_LEGACY: Mode = Mode {
    name: "iptables-legacy",
    args: &["--proxy-mode", "iptables", "--iptables-backend", "legacy"],
    tool: Tool::Iptables(Backend::Legacy),
    privileges: Privileges::Namespace,
};

/// The IPVS mode. The kernel lets nobody but the machine's root configure IPVS, in whichever network namespace: its
/// netlink commands and its sysctls are closed to user namespaces.
pub const IPVS: Mode =
    Mode { name: "ipvs", args: &["--proxy-mode", "ipvs"], tool: Tool::Ipvs, privileges: Privileges::Machine };

/// The userspace mode, led to by nftables.
pub const USERSPACE: Mode = Mode {
    name: "userspace",
    args: &["--proxy-mode", "userspace", "--userspace-entry", "captured"],
    tool: Tool::Nft,
    privileges: Privileges::Namespace,
};

/// The userspace mode, led to by iptables on the older back end.
pub const USERSPACE_IPTABLES: Mode = Mode {
    name: "userspace-iptables-legacy",
    args: &["--proxy-mode", "userspace", "--userspace-entry", "captured", "--iptables-backend", "legacy"],
    tool: Tool::Iptables(Backend::Legacy),
    privileges: Privileges::Namespace,
};

/// The userspace mode, led to by iptables on the back end that keeps its rules in nftables.
pub const USERSPACE_IPTABLES_NFT: Mode = Mode {
    name: "userspace-iptables-nft",
    args: &["--proxy-mode", "userspace", "--userspace-entry", "captured", "--iptables-backend", "nft"],
    tool: Tool::Iptables(Backend::Nft),
    privileges: Privileges::Namespace,
};

/// The iptables mode on either back end.
pub const IPTABLES: &[Mode] = &[IPTABLES_NFT, IPTABLES_LEGACY];

impl Mode {
    /// Whether a word means this mode: its name, or the name of several, `iptables` for either back end.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        let rest = self.name.strip_prefix(word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The capabilities that a container needs in this mode, by Kubernetes' names. Manifests say the same.
    #[must_use]
    pub fn capabilities(&self) -> &'static [&'static str] {
        match self.of_frontends().tool {
            // Programs of iptables-legacy open a raw socket before anything else; so do those of either back end for
            // a rule about a set.
            Tool::Iptables(Backend::Legacy) | Tool::Ipvs => &["NET_ADMIN", "NET_RAW"],
            Tool::Nft | Tool::Iptables(Backend::Nft) => &["NET_ADMIN"],
        }
    }

    /// The kernel parameters that this mode would set in a family, and which a privileged container sets for it, by
    /// their paths under `/proc/sys`.
    #[must_use]
    pub fn kernel_parameters(&self, family: Family) -> &'static [&'static str] {
        match self.of_frontends().tool {
            Tool::Iptables(_) if family == Family::V4 => &["net/ipv4/conf/all/route_localnet"],
            Tool::Ipvs => &[
                "net/ipv4/vs/conntrack",
                "net/ipv4/vs/expire_nodest_conn",
                "net/ipv4/vs/expire_quiescent_template",
            ],
            Tool::Nft | Tool::Iptables(_) => &[],
        }
    }

    /// Whether connections are carried by the process itself.
    #[must_use]
    pub fn is_userspace(&self) -> bool {
        self.is("userspace")
    }

    /// The mode whose rules frontends are served by: another one's, if connections are carried by the process.
    #[must_use]
    pub fn of_frontends(&self) -> Self {
        match self.tool {
            Tool::Nft if self.is_userspace() => NFTABLES,
            Tool::Iptables(Backend::Legacy) if self.is_userspace() => IPTABLES_LEGACY,
            Tool::Iptables(Backend::Nft) if self.is_userspace() => IPTABLES_NFT,
            _ => *self,
        }
    }
}
