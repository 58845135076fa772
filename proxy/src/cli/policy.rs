//! Flags of NetworkPolicy, and `pointsman policy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use endpoint_cache::{Family, Protocol};
use policy::{Denied, Established, LEAST_MARK_BITS, Settings, UnknownPods};

use super::{Cli, ConfiguredFlags, IptablesBackend, KERNEL, LoggingFlags, Output, SOURCE, backend, duration};

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

    /// Deny nothing: only count and log what would be denied.
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
#[command(args_conflicts_with_subcommands = true, after_help = TOOLS)]
pub struct PolicyCommand {
    /// To ask about policies instead.
    #[command(subcommand)]
    pub tool: Option<PolicyTool>,

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
        let Self {
            tool: _,
            manifests,
            master,
            watch_silence,
            mut configured,
            iptables_backend,
            policy,
            logging,
        } = self;
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

const TOOLS: &str = "\
Examples: may that pod connect there? What would these policies change?

  pointsman policy check --from shop/web --to shop/db:postgres
  pointsman policy what-if -f new.yaml --delete shop/old";

const CHECK: &str = "\
Examples: of the pods of the cluster, by name and by address:

  pointsman policy check --from shop/web --to shop/db:5432
  pointsman policy check --from 192.0.2.7 --to 10.244.1.3:dns --protocol udp

Exit status: 0 if it is allowed, 1 if it is denied, 2 if that cannot be told.";

const WHAT_IF: &str = "\
Example: before policies are applied, and one deleted:

  pointsman policy what-if -f new.yaml --delete shop/old

Exit status: 0 if nothing would change, 1 if something would, 2 if that cannot be
told. Nothing is changed.";

/// Questions about policies.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyTool {
    /// Show whether a connection is allowed: by which policy and rule, or by the absence of which.
    Check(CheckFlags),
    /// Show which connections, and which pairs of pods, other policies would cut or newly allow.
    WhatIf(WhatIfFlags),
}

/// What `pointsman policy check` is told.
#[derive(Args, Clone, Debug)]
#[command(after_help = CHECK)]
pub struct CheckFlags {
    /// Who connects: a pod, NAME or NAMESPACE/NAME, or an address.
    #[arg(long, value_name = "POD|IP")]
    pub from: String,
    /// Who is connected to, and at which port, by number or by the name that the pod gives it.
    #[arg(long, value_name = "POD:PORT|IP:PORT")]
    pub to: String,
    /// By what.
    #[arg(long, value_name = "NAME", value_enum, default_value = "tcp")]
    pub protocol: ProtocolWord,
    /// Ask these manifests (Pods, Namespaces and NetworkPolicies) in place of the process that runs on this machine.
    #[arg(long, value_name = "PATH")]
    pub manifests: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What `pointsman policy what-if` is told.
#[derive(Args, Clone, Debug)]
#[command(after_help = WHAT_IF)]
pub struct WhatIfFlags {
    /// Policies that would be added or changed: a file of manifests, or a folder of such.
    #[arg(short, long = "filename", value_name = "PATH", required_unless_present = "delete")]
    pub files: Vec<PathBuf>,
    /// A policy that would be deleted, NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "POLICY")]
    pub delete: Vec<String>,
    /// Ask these manifests (Pods, Namespaces and NetworkPolicies) in place of the process that runs on this machine.
    #[arg(long, value_name = "PATH")]
    pub manifests: Option<PathBuf>,
    /// How to print it; `wide` with more rows.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Words of `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolWord {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl From<ProtocolWord> for Protocol {
    fn from(word: ProtocolWord) -> Self {
        match word {
            ProtocolWord::Tcp => Self::Tcp,
            ProtocolWord::Udp => Self::Udp,
            ProtocolWord::Sctp => Self::Sctp,
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
