//! What enforces policies: the one place that names all enforcers.

use std::fmt;

use anyhow::Context;
use policy::iptables::{self, Iptables};
use policy::nftables::{self, Nftables};
use policy::{Enforcer, Error, Settings};

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

    /// Makes it ready. Nothing is programmed yet. iptables is of this variant, or of the one that the node uses.
    pub(super) fn open(
        self,
        settings: Settings,
        variant: Option<kernel::iptables::Backend>,
    ) -> anyhow::Result<Box<dyn Enforcer>> {
        match self {
            Self::Nftables => {
                let enforcer =
                    Nftables::new(settings).context("cannot enforce NetworkPolicies by nftables")?;
                Ok(Box::new(enforcer))
            }
            Self::Iptables => {
                let enforcer = Iptables::new(settings, variant);
                Ok(Box::new(enforcer.context("cannot enforce NetworkPolicies by iptables")?))
            }
        }
    }

    /// Takes away what it left; whether there was anything.
    pub(super) fn cleanup(self) -> anyhow::Result<bool> {
        match self {
            Self::Nftables => match nftables::cleanup() {
                // Then there are no tables either.
                Err(Error::Kernel(kernel::Error::Unsupported { .. })) => Ok(false),
                removed => removed.context("cannot remove policies' nftables tables"),
            },
            Self::Iptables => {
                iptables::cleanup().context("cannot remove policies' chains and sets of iptables")
            }
        }
    }
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
