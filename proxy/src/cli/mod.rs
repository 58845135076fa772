//! The command line: kube-proxy's flags, names and defaults, as they are written.
//!
//! What the flags mean together is checked and worked out in [`crate::options`].

mod configured;
mod conntrack;
mod diff;
mod fanout;
mod get;
mod ipam;
mod ipvs;
mod live;
mod logging;
mod network;
mod policy;
mod status;
mod trace;
mod userspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use modes::iptables::Backend;

pub use self::configured::ConfiguredFlags;
pub(crate) use self::configured::flag;
pub use self::diff::DiffFlags;
pub use self::fanout::{By, Close, FanoutFlags, RespondFlags};
pub use self::get::{ExplainFlags, GetFlags, GetKind};
pub use self::ipam::{DoctorFlags, IpamTool};
pub use self::live::LiveFlags;
pub(crate) use self::live::filter as followed;
pub use self::logging::LoggingFlags;
pub(crate) use self::network::{CONFLIST, GATE};
pub use self::network::{DataPathWord, GateWord, NetworkFlags, NetworkWord};
pub use self::policy::{
    CheckFlags, PolicyBackend, PolicyCommand, PolicyFlags, PolicyTool, ProtocolWord, Switch, WhatIfFlags,
};
pub use self::status::{Output, StatusFlags};
pub use self::trace::TraceFlags;
pub use self::userspace::{Entry, UserspaceFlags};
use crate::config::GoDuration;

const NODE: &str = "Node";
const SOURCE: &str = "Where Services come from";
const TRAFFIC: &str = "Traffic";
const KERNEL: &str = "Kernel";
const TELEMETRY: &str = "Health and metrics";
const INSTEAD: &str = "To do instead";
const OTHER: &str = "Other";

const EXAMPLE: &str = "\
Example: program this node for the Services of a cluster:

  pointsman --kubeconfig /etc/kubernetes/kube-proxy.conf --cluster-cidr 10.244.0.0/16

Example: the same with kube-proxy's configuration file, after a look at it:

  pointsman check-config /var/lib/kube-proxy/config.conf
  pointsman --config /var/lib/kube-proxy/config.conf --hostname-override $NODE

Example: program it for the Services and EndpointSlices in a folder, and follow
every save of a file there:

  pointsman --manifests ./manifests --cluster-cidr 10.244.0.0/16

The folder can hold what `kubectl get services,endpointslices -A -o yaml` prints.

Example: reach the Services of a cluster from this machine, as an ordinary user,
each at a port of its own on 127.0.0.1 that `pointsman status` shows:

  pointsman --proxy-mode userspace --kubeconfig ~/.kube/config

See how the process stands, and what it makes of Services:

  pointsman status
  pointsman get endpoints -n shop web
  pointsman explain shop/web

Stopping Pointsman leaves the rules in force; take them away with:

  pointsman --cleanup

Exit status: 0 after --cleanup, when told to stop by SIGTERM or SIGINT, or when
the file of --config asks for what takes another process (so let it be started
again whenever it ends: systemd's Restart=always), 1 when the work cannot be
done, 2 when the command line is wrong.";

/// Sends every connection to a Kubernetes Service to one of its endpoints: kube-proxy's job.
///
/// Flags have kube-proxy's names and defaults, except that the default mode is nftables and that changes are programmed
/// at once.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, after_help = EXAMPLE, args_override_self = true, max_term_width = 110)]
#[command(disable_help_flag = true, disable_version_flag = true, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than following Services.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), such as kube-proxy's. What it has a field for is
    /// then not taken from flags, but for --hostname-override and those for logs. Followed: what can be is changed in
    /// flight; for the rest the process ends with status 0, to be started again.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub config: String,

    /// A folder of YAML and JSON manifests (Services, EndpointSlices, Nodes, ServiceCIDRs and lists of them; for
    /// --network-policy Pods, Namespaces and NetworkPolicies), or one such file, in place of the Kubernetes API. Followed:
    /// a saved file is in force at once. Sub-folders and hidden files are not read.
    #[arg(long, value_name = "PATH", help_heading = SOURCE)]
    pub manifests: Option<PathBuf>,

    /// Address of the Kubernetes API server; overrides the one in the kubeconfig file.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub master: String,

    /// A watch of the Kubernetes API that says nothing for this long, not even a bookmark, is taken to be dead and
    /// opened anew.
    #[arg(long, value_name = "DURATION", default_value = "150s", value_parser = duration, help_heading = SOURCE)]
    pub watch_silence: Duration,

    /// What a configuration file can say as well.
    #[command(flatten)]
    pub configured: ConfiguredFlags,

    /// Which iptables to use, nft or legacy; auto takes the one that the kubelet has its rules in, else the one with
    /// more rules, as the Kubernetes images do.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend, help_heading = KERNEL)]
    pub iptables_backend: IptablesBackend,

    /// What only userspace mode asks.
    #[command(flatten)]
    pub userspace: UserspaceFlags,

    /// Enforce NetworkPolicies on this node. Off, what an earlier process enforced is taken away.
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "off", help_heading = policy::HEADING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub network_policy: Switch,

    /// How policies are enforced.
    #[command(flatten)]
    pub policy: PolicyFlags,

    /// How pods get their network.
    #[command(flatten)]
    pub network: NetworkFlags,

    /// Unix socket at which `pointsman status` is answered, and asks; empty for nowhere [default:
    /// /run/pointsman/pointsman.sock as root, else $XDG_RUNTIME_DIR/pointsman.sock].
    #[arg(long, value_name = "PATH", global = true, help_heading = TELEMETRY)]
    pub socket: Option<String>,

    /// Serve a page about this node's Services at /status-page, beside /metrics: for people and their browsers, read-only.
    #[arg(long, value_name = "BOOL", help_heading = TELEMETRY)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub status_page: bool,

    /// Take away everything that Pointsman programmed on this node, and exit.
    #[arg(long, value_name = "BOOL", help_heading = INSTEAD)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub cleanup: bool,

    /// Set the kernel parameters that take full root privileges, and exit: run again, it then needs CAP_NET_ADMIN only.
    #[arg(long, value_name = "BOOL", help_heading = INSTEAD)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub init_only: bool,

    /// Write the configuration as it would be in force, with its defaults, to this file, and exit.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, help_heading = INSTEAD)]
    pub write_config_to: String,

    /// Print the version, and exit; `raw` for every detail.
    #[arg(long, value_name = "HOW", help_heading = INSTEAD)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = version, hide_default_value = true)]
    pub version: Version,

    /// Logs.
    #[command(flatten)]
    pub logging: LoggingFlags,

    /// Print this help; -h a shorter one.
    #[arg(short, long, action = ArgAction::Help, global = true, help_heading = OTHER)]
    help: Option<bool>,

    /// All flags, by name.
    #[arg(skip)]
    pub flags: Vec<Flag>,
}

/// A flag as it is in force, given or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes.
    pub name: String,
    /// As text.
    pub value: String,
    /// Whether the command line says it.
    pub given: bool,
}

/// What else there is to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show how the pointsman that runs on this machine stands, and where userspace mode listens.
    Status(StatusFlags),
    /// Show Services or endpoints as this node sees them, and why an endpoint is not used.
    Get(GetFlags),
    /// Show what follows on this node from each field of a Service.
    Explain(ExplainFlags),
    /// Show how the kernel differs from what should be there: exit status 0 if it does not, 1 if it does, 2 if that cannot
    /// be told. Asks the pointsman that runs on this machine; with any flag that says what should be there, it is worked
    /// out without that. Changes nothing.
    Diff(Box<DiffFlags>),
    /// Show where a connection would go, and why: by what the kernel holds, with what stands in its way.
    Trace(TraceFlags),
    /// Open connections to a Service, and show how they are spread over its endpoints, how long they take and what
    /// fails.
    Fanout(FanoutFlags),
    /// Enforce NetworkPolicies alone, beside whatever proxy this node has; or, by check and what-if, ask about them.
    Policy(Box<PolicyCommand>),
    /// Ask about the addresses of this node's pods.
    #[command(subcommand)]
    Ipam(IpamTool),
    /// Answer connections and datagrams with the address and name of who answers: a server for `fanout`.
    Respond(RespondFlags),
    /// Check a configuration file, strictly: exit status 1 if anything in it is doubtful. Touches nothing.
    CheckConfig {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print what makes a shell complete this command line: `source <(pointsman completion bash)`.
    Completion {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page, for `man -l`.
    Manual,
}

/// How `--version` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Not at all.
    No,
    /// In a line.
    Short,
    /// With every detail.
    Raw,
}

/// The iptables that is asked for; `None` for the one that the node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IptablesBackend(pub Option<Backend>);

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// When it is not valid; also when it asks for help, which is then what the error prints.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(args.into_iter().map(dashed))?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let own = matches.subcommand().filter(|(name, _)| ["diff", "policy"].contains(name));
        cli.flags = flags(&command, own.map_or(&matches, |(_, matches)| matches));
        Ok(cli)
    }

    /// The flags given that do not count, because a configuration file does.
    #[must_use]
    pub fn overruled(&self) -> Vec<String> {
        let configured = ConfiguredFlags::augment_args(clap::Command::new(""));
        let names = configured.get_arguments().filter_map(clap::Arg::get_long);
        let is_given = |name: &&str| self.flags.iter().any(|flag| flag.given && flag.name == *name);
        let overruled = names.filter(|name| *name != "hostname-override").filter(is_given);
        overruled.map(|name| format!("--{name}")).collect()
    }
}

/// Flags may be written with underscores, as kube-proxy takes them too.
fn dashed(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else { return argument };
    match text.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
        None => text.replace('_', "-").into(),
    }
}

fn flags(command: &clap::Command, matches: &ArgMatches) -> Vec<Flag> {
    let flag = |argument: &clap::Arg| {
        let (name, id) = (argument.get_long()?, argument.get_id().as_str());
        let values = matches.try_get_raw(id).ok()?.into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let given = matches.value_source(id) == Some(ValueSource::CommandLine);
        Some(Flag { name: name.to_owned(), value: values.join(","), given })
    };
    let mut flags: Vec<_> = command.get_arguments().filter_map(flag).collect();
    flags.sort_by(|a, b| a.name.cmp(&b.name));
    flags
}

fn version(text: &str) -> Result<Version, &'static str> {
    match text {
        "raw" => Ok(Version::Raw),
        text => boolean(text).map(|yes| if yes { Version::Short } else { Version::No }),
    }
}

/// The words that kube-proxy's flags take for a truth value.
fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("write true or false"),
    }
}

fn backend(text: &str) -> Result<IptablesBackend, &'static str> {
    match text.trim() {
        "" | "auto" => Ok(IptablesBackend(None)),
        "nft" => Ok(IptablesBackend(Some(Backend::Nft))),
        "legacy" => Ok(IptablesBackend(Some(Backend::Legacy))),
        _ => Err("write auto, nft or legacy"),
    }
}

/// A length of time as Go writes it, longer than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<GoDuration, _> = text.parse();
    let usable = parsed.ok().and_then(GoDuration::positive).filter(|duration| !duration.is_zero());
    usable.ok_or_else(|| format!("{text:?} is no length of time such as 30s or 1m30s"))
}

/// An error of the command line as one line: what is wrong, where, and what to do.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\nUsage:", "\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
    let parts = text[..end.unwrap_or(text.len())].lines().map(str::trim).filter(|line| !line.is_empty());
    format!("{} (see pointsman --help)", parts.collect::<Vec<_>>().join(" ").replace(" tip:", "; tip:"))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn read(args: &[&str]) -> Result<Cli, String> {
        let args = std::iter::once("pointsman").chain(args.iter().copied()).map(OsString::from);
        Cli::read(args).map_err(|error| one_line(&error))
    }

    #[test]
    fn booleans_are_written_as_pflag_writes_them() {
        let masquerades = |args: &[&str]| read(args).unwrap().configured.masquerade_all;
        assert!(!masquerades(&[]));
        assert!(masquerades(&["--masquerade-all"]));
        assert!(masquerades(&["--masquerade-all=T"]));
        assert!(!masquerades(&["--masquerade-all=false"]));
        assert!(masquerades(&["--masquerade-all=false", "--masquerade-all"]));
        let error = read(&["--masquerade-all=maybe"]).unwrap_err();
        assert!(error.contains("maybe") && error.contains("true or false"), "{error}");
    }

    #[test]
    fn verbosity_is_written_as_klog_writes_it() {
        for args in [&["-v", "4"][..], &["-v=4"], &["-v4"], &["--v=4"], &["--v", "4"]] {
            assert_eq!(read(args).unwrap().logging.verbosity, Some(4), "{args:?}");
        }
    }

    #[test]
    fn modules_have_a_verbosity_of_their_own() {
        let modules = read(&["--vmodule=a=1,b*=2", "--vmodule=c=3,"]).unwrap().logging.vmodule;
        let modules: Vec<_> =
            modules.iter().flatten().map(|item| (&*item.file_pattern, item.verbosity)).collect();
        assert_eq!(modules, [("a", 1), ("b*", 2), ("c", 3)]);
        assert!(read(&["--vmodule=a"]).is_err_and(|error| error.contains("sync_loop=4")));
    }

    #[test]
    fn flags_may_be_written_with_underscores() {
        let cli = read(&["--masquerade_all=true", "--hostname_override=a_b"]).unwrap().configured;
        assert_eq!((cli.masquerade_all, &*cli.hostname_override), (true, "a_b"));
    }

    #[test]
    fn lists_take_commas_and_repetition() {
        let flags = ["--nodeport-addresses=10.0.0.0/8,11.0.0.0/8", "--nodeport-addresses=fd00::/8"];
        let addresses = read(&flags).unwrap().configured.nodeport_addresses;
        assert_eq!(addresses, ["10.0.0.0/8", "11.0.0.0/8", "fd00::/8"]);
    }

    #[test]
    fn lengths_of_time_are_written_as_go_writes_them() {
        let cli = read(&["--watch-silence=1m0s", "--iptables-sync-period=1.5h"]).unwrap();
        assert_eq!(cli.watch_silence, Duration::from_secs(60));
        assert_eq!(cli.configured.iptables_sync_period, GoDuration::from_secs(5400));
        for text in ["0s", "-1s", "soon", ""] {
            let error = read(&[&*format!("--watch-silence={text}")]).unwrap_err();
            assert!(error.contains("--watch-silence") && error.contains("1m30s"), "{error}");
        }
    }

    #[test]
    fn the_version_is_asked_for_as_of_kubernetes_components() {
        for (args, version) in [
            (&[][..], Version::No),
            (&["--version"], Version::Short),
            (&["--version=true"], Version::Short),
            (&["--version=raw"], Version::Raw),
            (&["--version=false"], Version::No),
        ] {
            assert_eq!(read(args).unwrap().version, version, "{args:?}");
        }
    }

    #[test]
    fn a_file_overrules_what_it_has_a_field_for() {
        let flags = [
            "--config=x",
            "--proxy-mode=ipvs",
            "--hostname-override=a",
            "-v=2",
            "--master=b",
            "--ipvs-strict-arp",
        ];
        assert_eq!(read(&flags).unwrap().overruled(), ["--proxy-mode", "--ipvs-strict-arp"]);
    }

    #[test]
    fn userspace_is_told_what_its_flags_say() {
        let of = |args: &[&str]| read(args).map(|cli| cli.userspace.captured());
        let default = of(&[]).unwrap();
        assert_eq!(default.forward, modes::userspace::forward::Options::default());
        assert_eq!((default.ports.clone(), default.addresses.len()), (1024..=65_535, 0));
        let flags = [
            "--userspace-balancing=least-connections",
            "--userspace-max-connections=10",
            "--udp-timeout=250ms",
        ];
        let asked = of(&flags).unwrap().forward;
        assert_eq!(asked.balancing, modes::userspace::forward::Balancing::LeastConnections);
        assert_eq!(asked.max_connections.map(std::num::NonZeroUsize::get), Some(10));
        assert_eq!(asked.udp_idle, Duration::from_millis(250));
        let addresses = of(&["--userspace-capture-addresses=192.0.2.1,fd00::1"]).unwrap().addresses;
        assert_eq!(addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        for (text, ports) in
            [("", 1024..=65_535), ("0-0", 1024..=65_535), ("2000-3000", 2000..=3000), ("2000+5", 2000..=2005)]
        {
            assert_eq!(of(&[&*format!("--proxy-port-range={text}")]).unwrap().ports, ports, "{text}");
        }
        for (flag, part) in [
            ("--proxy-port-range=3000-2000", "1024-65535"),
            ("--proxy-port-range=70000", "70000"),
            ("--userspace-capture-addresses=127.0.0.1", "loopback"),
            ("--userspace-workers=0", "0"),
            ("--userspace-entry=window", "captured"),
        ] {
            let error = of(&[flag]).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_error_is_one_line_that_names_the_flag() {
        for (args, words) in [
            (&["--iptables-masquerade-bit=x"][..], ["--iptables-masquerade-bit", "invalid digit"]),
            (&["--iptables-sync-period=soon"], ["--iptables-sync-period", "1m30s"]),
            (&["--iptables-backend=old"], ["--iptables-backend", "legacy"]),
            (&["--masqerade-all"], ["--masqerade-all", "'--masquerade-all'"]),
            (&["stray"], ["stray", "--help"]),
        ] {
            let error = read(args).unwrap_err();
            assert!(!error.contains('\n') && words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
