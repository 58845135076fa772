//! What enforces policies: the one place that names all enforcers.

use std::fmt;

use anyhow::Context;
use policy::nftables::{self, Nftables};
use policy::{Enforcer, Settings};

use crate::cli::PolicyBackend;
use crate::mode::ModeName;

/// What enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A table of nftables.
    Nftables,
    /// Chains of iptables, with sets.
    Iptables,
}

impl Backend {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Nftables, Self::Iptables];

    /// The one that is asked for, beside a proxy in this mode.
    pub(crate) fn of(asked: PolicyBackend, mode: ModeName) -> Self {
        match (asked, mode) {
            (PolicyBackend::Nftables, _) => Self::Nftables,
            (PolicyBackend::Iptables, _) | (PolicyBackend::Auto, ModeName::Iptables) => Self::Iptables,
            (PolicyBackend::Auto, ModeName::Nftables | ModeName::Ipvs | ModeName::Userspace) => {
                Self::Nftables
            }
        }
    }

    /// Makes it ready. Nothing is programmed yet.
    pub(super) fn open(self, settings: Settings) -> anyhow::Result<Box<dyn Enforcer>> {
        match self {
            Self::Nftables => {
                let enforcer =
                    Nftables::new(settings).context("cannot enforce NetworkPolicies by nftables")?;
                Ok(Box::new(enforcer))
            }
            Self::Iptables => todo_ipt(settings),
        }
    }

    /// Takes away what it left; whether there was anything.
    pub(super) fn cleanup(self) -> anyhow::Result<bool> {
        match self {
            Self::Nftables => nftables::cleanup().context("cannot remove policies' nftables table"),
            Self::Iptables => Ok(false),
        }
    }
}

fn todo_ipt(_settings: Settings) -> anyhow::Result<Box<dyn Enforcer>> {
    anyhow::bail!("not there yet")
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_counts_and_the_proxys_mode_if_nothing_is() {
        for (asked, mode, backend) in [
            (PolicyBackend::Auto, ModeName::Nftables, Backend::Nftables),
            (PolicyBackend::Auto, ModeName::Ipvs, Backend::Nftables),
            (PolicyBackend::Auto, ModeName::Userspace, Backend::Nftables),
            (PolicyBackend::Auto, ModeName::Iptables, Backend::Iptables),
            (PolicyBackend::Nftables, ModeName::Iptables, Backend::Nftables),
            (PolicyBackend::Iptables, ModeName::Nftables, Backend::Iptables),
        ] {
            assert_eq!(Backend::of(asked, mode), backend, "{asked:?} {mode}");
        }
    }
}
