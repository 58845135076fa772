//! Flags of NetworkPolicy, and `pointsman policy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use endpoint_cache::Family;
use policy::{Denied, Established, LEAST_MARK_BITS, Settings, UnknownPods};

use super::{Cli, ConfiguredFlags, IptablesBackend, KERNEL, LoggingFlags, SOURCE, backend, duration};

/// What help texts have these flags under.
pub(super) const HEADING: &str = "NetworkPolicy";

/// What `pointsman policy` answers on, unless told: whose node this is has a proxy that answers on the usual ports.
const HEALTH_ALONE: &str = "0.0.0.0:10246";
const METRICS_ALONE: &str = "127.0.0.1:10239";

/// How NetworkPolicies are enforced.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct PolicyFlags {
    /// What enforces them: nftables, or iptables with sets; auto takes iptables beside --proxy-mode iptables, else nftables.
    #[arg(long, value_name = "NAME", value_enum, default_value = "auto", help_heading = HEADING)]
    pub policy_backend: PolicyBackend,

    /// What a denied packet meets.
    #[arg(long, value_name = "WAY", value_enum, default_value = "reject", help_heading = HEADING)]
    pub policy_denied: DeniedWord,

    /// What becomes of connections under way that a change of policies denies.
    #[arg(long, value_name = "WAY", value_enum, default_value = "cut", help_heading = HEADING)]
    pub policy_established: EstablishedWord,

    /// With --policy-established drain, for how long they may go on.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = HEADING)]
    pub policy_drain: Duration,

    /// What an address within the Node's podCIDRs meets that no known pod has, such as one of a pod that has just begun.
    #[arg(long, value_name = "WAY", value_enum, default_value = "deny", help_heading = HEADING)]
    pub policy_unknown_pods: UnknownPodsWord,

    /// Log what is denied: who, to whom, and by which policies.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "off", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub policy_log_denied: Switch,

    /// Deny nothing: only count, and log if asked to, what would be denied.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "off", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub policy_audit: Switch,

    /// Bits of the conntrack mark that tell which connections were allowed; nobody else may use them.
    #[arg(long, value_name = "MASK", value_parser = mark_mask, help_heading = HEADING)]
    #[arg(default_value = DEFAULT_MASK)]
    pub policy_mark_mask: u32,
}

const DEFAULT_MASK: &str = "0x0fff0000";

/// A truth value in people's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes
    #[value(alias = "true")]
    On,
    /// No
    #[value(alias = "false")]
    Off,
}

/// Words of `--policy-backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyBackend {
    /// As the proxy's mode
    Auto,
    /// A table of its own
    Nftables,
    /// Chains and sets
    Iptables,
}

/// Words of `--policy-denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeniedWord {
    /// An answer that says so, at once
    Reject,
    /// Silence
    Drop,
}

/// Words of `--policy-established`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EstablishedWord {
    /// Their next packet is denied
    Cut,
    /// They may go on for --policy-drain
    Drain,
    /// They go on to their end
    Keep,
}

/// Words of `--policy-unknown-pods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnknownPodsWord {
    /// Nothing passes until the pod is known
    Deny,
    /// It is no business of policies
    Allow,
}

impl PolicyFlags {
    /// What an enforcer is told, on a node with these families.
    #[must_use]
    pub fn settings(&self, families: Vec<Family>) -> Settings {
        Settings {
            families,
            denied: match self.policy_denied {
                DeniedWord::Reject => Denied::Reject,
                DeniedWord::Drop => Denied::Drop,
            },
            established: match self.policy_established {
                EstablishedWord::Cut => Established::Cut,
                EstablishedWord::Drain => Established::Drain(self.policy_drain),
                EstablishedWord::Keep => Established::Keep,
            },
            unknown_pods: match self.policy_unknown_pods {
                UnknownPodsWord::Deny => UnknownPods::Deny,
                UnknownPodsWord::Allow => UnknownPods::Allow,
            },
            log_denied: self.policy_log_denied == Switch::On,
            audit: self.policy_audit == Switch::On,
            mark_mask: self.policy_mark_mask,
        }
    }
}

/// A mask in hexadecimal or decimal, of bits in a row.
fn mark_mask(text: &str) -> Result<u32, String> {
    let digits = text.trim();
    let read = match digits.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let mask = read.map_err(|_| format!("{text:?} is no mask such as {DEFAULT_MASK}"))?;
    let bits = mask.count_ones();
    if bits < LEAST_MARK_BITS {
        return Err(format!("{bits} bits are too few: it takes {LEAST_MARK_BITS}"));
    }
    if mask >> mask.trailing_zeros() != u32::MAX >> (u32::BITS - bits) {
        return Err(format!("its bits are not in a row, as those of {DEFAULT_MASK}"));
    }
    Ok(mask)
}

/// What `pointsman policy` is told: what tells it where objects come from, and how policies are enforced.
#[derive(Args, Clone, Debug)]
pub struct PolicyCommand {
    /// A folder of manifests (Pods, Namespaces, NetworkPolicies, Nodes and lists of them), or one file.
    #[arg(long, value_name = "PATH", help_heading = SOURCE)]
    pub manifests: Option<PathBuf>,

    /// Address of the Kubernetes API server.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub master: String,

    /// A watch of the Kubernetes API that says nothing for this long is opened anew.
    #[arg(long, value_name = "DURATION", default_value = "150s", value_parser = duration, help_heading = SOURCE)]
    pub watch_silence: Duration,

    /// What a configuration file can say as well.
    #[command(flatten)]
    pub configured: ConfiguredFlags,

    /// Which iptables to use.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend, help_heading = KERNEL)]
    pub iptables_backend: IptablesBackend,

    /// How policies are enforced.
    #[command(flatten)]
    pub policy: PolicyFlags,

    /// Logs.
    #[command(flatten)]
    pub logging: LoggingFlags,
}

impl PolicyCommand {
    /// The command line of a process that does this, and no proxy's work.
    #[must_use]
    pub fn into_alone(self, cli: Cli) -> Cli {
        let Self { manifests, master, watch_silence, mut configured, iptables_backend, policy, logging } =
            self;
        configured.healthz_bind_address.get_or_insert_with(|| HEALTH_ALONE.to_owned());
        configured.metrics_bind_address.get_or_insert_with(|| METRICS_ALONE.to_owned());
        Cli {
            command: None,
            manifests,
            master,
            watch_silence,
            configured,
            iptables_backend,
            policy,
            network_policy: Switch::On,
            logging,
            ..cli
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::MARK_MASK;

    use super::*;

    #[test]
    fn the_default_mask_is_the_enforcers() {
        assert_eq!(mark_mask(DEFAULT_MASK), Ok(MARK_MASK));
    }

    #[test]
    fn a_mask_has_enough_bits_in_a_row() {
        for (text, mask) in [("0xf", 15), ("4294901760", 0xffff_0000), ("0xffffffff", u32::MAX)] {
            assert_eq!(mark_mask(text), Ok(mask), "{text}");
        }
        for (text, part) in [
            ("", "no mask"),
            ("0x", "no mask"),
            ("0x100000000", "no mask"),
            ("0", "too few"),
            ("0x70", "too few"),
            ("0xf0f0", "in a row"),
            ("0x80000007", "in a row"),
        ] {
            let error = mark_mask(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
