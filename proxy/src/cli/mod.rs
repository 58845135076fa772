//! The command line: kube-proxy's flags, names and defaults, as they are written.
//!
//! What the flags mean together is checked and worked out in [`crate::options`].

mod ipvs;
mod status;
mod userspace;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use jiff::SignedDuration;
use modes::iptables::Backend;

pub use self::ipvs::IpvsFlags;
pub use self::status::{Output, StatusFlags};
pub use self::userspace::{Entry, UserspaceFlags};
use crate::mode::ModeName;

const NODE: &str = "Node";
const SOURCE: &str = "Where Services come from";
const TRAFFIC: &str = "Traffic";
const KERNEL: &str = "Kernel";
const TELEMETRY: &str = "Health and metrics";
const OTHER: &str = "Other";

const EXAMPLE: &str = "\
Example: program this node for the Services of a cluster:

  pointsman --kubeconfig /etc/kubernetes/kube-proxy.conf --cluster-cidr 10.244.0.0/16

Example: program it for the Services and EndpointSlices in a folder, and follow
every save of a file there:

  pointsman --manifests ./manifests --cluster-cidr 10.244.0.0/16

The folder can hold what `kubectl get services,endpointslices -A -o yaml` prints.

Example: reach the Services of a cluster from this machine, as an ordinary user,
each at a port of its own on 127.0.0.1 that `pointsman status` shows:

  pointsman --proxy-mode userspace --kubeconfig ~/.kube/config

See how the process stands:

  pointsman status

Stopping Pointsman leaves the rules in force; take them away with:

  pointsman --cleanup

Exit status: 0 after --cleanup or when told to stop by SIGTERM or SIGINT, 1 when
the work cannot be done, 2 when the command line is wrong.";

/// Sends every connection to a Kubernetes Service to one of its endpoints: kube-proxy's job.
///
/// Flags have kube-proxy's names and defaults, except that the default mode is nftables.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, after_help = EXAMPLE, args_override_self = true, max_term_width = 110)]
#[command(disable_help_flag = true, disable_version_flag = true, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than following Services.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// A folder of YAML and JSON manifests (Services, EndpointSlices, Nodes, ServiceCIDRs and lists of them), or one
    /// such file, in place of the Kubernetes API. Followed: a saved file is in force at once. Sub-folders and hidden
    /// files are not read.
    #[arg(long, value_name = "PATH", help_heading = SOURCE)]
    pub manifests: Option<PathBuf>,

    /// How to reach the Kubernetes API and who to be there [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = SOURCE)]
    pub kubeconfig: Option<String>,

    /// Address of the Kubernetes API server; overrides the one in the kubeconfig file.
    #[arg(long, value_name = "URL", help_heading = SOURCE)]
    pub master: Option<String>,

    /// A watch of the Kubernetes API that says nothing for this long, not even a bookmark, is taken to be dead and
    /// opened anew.
    #[arg(long, value_name = "DURATION", default_value = "150s", value_parser = duration, help_heading = SOURCE)]
    pub watch_silence: Duration,

    /// How to program the node: nftables, iptables, ipvs, or userspace, which carries connections itself.
    #[arg(long, value_name = "MODE", default_value = "nftables", help_heading = KERNEL)]
    #[arg(hide_possible_values = true)]
    pub proxy_mode: ModeName,

    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=31))]
    #[arg(help_heading = KERNEL)]
    pub iptables_masquerade_bit: u8,

    /// Which iptables to use, nft or legacy; auto takes the one that the kubelet has its rules in, else the one with
    /// more rules, as the Kubernetes images do.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend, help_heading = KERNEL)]
    pub iptables_backend: IptablesBackend,

    /// In iptables mode, let node ports answer on 127.0.0.1 too (sets net.ipv4.conf.all.route_localnet=1) [default:
    /// true].
    #[arg(long, value_name = "BOOL", help_heading = KERNEL)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub iptables_localhost_nodeports: bool,

    /// What only ipvs mode asks.
    #[command(flatten)]
    pub ipvs: IpvsFlags,

    /// What only userspace mode asks.
    #[command(flatten)]
    pub userspace: UserspaceFlags,

    /// Have conntrack let TCP packets outside the window pass (net.netfilter.nf_conntrack_tcp_be_liberal=1).
    #[arg(long, value_name = "BOOL", help_heading = KERNEL)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub conntrack_tcp_be_liberal: bool,

    /// Take away everything that Pointsman programmed on this node, and exit.
    #[arg(long, value_name = "BOOL", help_heading = KERNEL)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub cleanup: bool,

    /// Name of this node in the cluster [default: the host name, lower-cased].
    #[arg(long, value_name = "NAME", help_heading = NODE)]
    pub hostname_override: Option<String>,

    /// Address of this node; a specific one overrides the Node object's.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", help_heading = NODE)]
    pub bind_address: IpAddr,

    /// On which addresses of this node node ports answer: a comma-separated list of CIDRs, or the single word
    /// `primary` for the Node's own addresses [default: primary; every address in iptables and ipvs mode].
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', help_heading = NODE)]
    pub nodeport_addresses: Vec<String>,

    /// Masquerade all traffic that is sent to a ClusterIP.
    #[arg(long, value_name = "BOOL", help_heading = TRAFFIC)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub masquerade_all: bool,

    /// The pods' CIDR, or one of each family separated by a comma: traffic to a ClusterIP from elsewhere is
    /// masqueraded.
    #[arg(long, value_name = "CIDRS", default_value = "", hide_default_value = true)]
    #[arg(value_parser = cidrs, help_heading = TRAFFIC)]
    pub cluster_cidr: Cidrs,

    /// How to tell traffic of this node's pods.
    #[arg(long, value_name = "MODE", default_value = "ClusterCIDR", help_heading = TRAFFIC)]
    pub detect_local_mode: DetectLocalMode,

    /// Bridge that pods are joined to, for --detect-local-mode=BridgeInterface.
    #[arg(long, value_name = "NAME", help_heading = TRAFFIC)]
    pub pod_bridge_interface: Option<String>,

    /// How the names of pods' interfaces begin, for --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", help_heading = TRAFFIC)]
    pub pod_interface_name_prefix: Option<String>,

    /// Where /healthz and /livez are answered; empty for nowhere.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256", help_heading = TELEMETRY)]
    #[arg(value_parser = healthz_address)]
    pub healthz_bind_address: BindAddress,

    /// Where /metrics is answered; empty for nowhere.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249", help_heading = TELEMETRY)]
    #[arg(value_parser = metrics_address)]
    pub metrics_bind_address: BindAddress,

    /// A change that cannot be programmed for twice this long makes /healthz and /livez answer 503. In every mode.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = TELEMETRY)]
    pub iptables_sync_period: Duration,

    /// Unix socket at which `pointsman status` is answered, and asks; empty for nowhere [default:
    /// /run/pointsman/pointsman.sock as root, else $XDG_RUNTIME_DIR/pointsman.sock].
    #[arg(long, value_name = "PATH", global = true, help_heading = TELEMETRY)]
    pub socket: Option<String>,

    /// How much to log: 0 to 3 what was done, 4 and 5 details, 6 and up everything.
    #[arg(short, long = "v", value_name = "N", default_value_t = 0, help_heading = OTHER)]
    pub verbosity: u8,

    /// Print this help.
    #[arg(short, long, action = ArgAction::Help, global = true, help_heading = OTHER)]
    help: Option<bool>,

    /// Print the version.
    #[arg(long, action = ArgAction::Version, help_heading = OTHER)]
    version: Option<bool>,
}

/// What else there is to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Show how the pointsman that runs on this machine stands, and where userspace mode listens.
    Status(StatusFlags),
}

/// A comma-separated list of CIDRs; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cidrs(pub Vec<IpNet>);

/// The iptables that is asked for; `None` for the one that the node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IptablesBackend(pub Option<Backend>);

/// An address to listen on, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// Words of `--detect-local-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    /// The source address is within --cluster-cidr
    #[value(name = "ClusterCIDR", alias = "")]
    ClusterCidr,
    /// The source address is within the Node object's podCIDRs
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// The packet came in on --pod-bridge-interface
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// The packet came in on an interface named --pod-interface-name-prefix and on
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// When it is not valid; also when it asks for help or the version, which is then what the error prints.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
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

fn healthz_address(text: &str) -> Result<BindAddress, String> {
    bind_address(text, 10256)
}

fn metrics_address(text: &str) -> Result<BindAddress, String> {
    bind_address(text, 10249)
}

fn bind_address(text: &str, port: u16) -> Result<BindAddress, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(BindAddress(None));
    }
    let alone = |text: &str| Some(SocketAddr::new(text.parse().ok()?, port));
    let address = text.parse().ok().or_else(|| alone(text));
    let address = address.ok_or_else(|| format!("{text:?} is no address such as 127.0.0.1:{port}"))?;
    Ok(BindAddress(Some(address)))
}

/// A length of time as Go writes it, longer than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.trim().parse().ok().and_then(|signed: SignedDuration| signed.try_into().ok());
    parsed
        .filter(|duration: &Duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is no length of time such as 30s or 1m30s"))
}

/// A CIDR with its host bits cleared, as everything that compares prefixes needs it.
pub(crate) fn cidr(text: &str) -> Result<IpNet, String> {
    let net: Result<IpNet, _> = text.trim().parse();
    let net = net.map_err(|_| format!("{text:?} is no CIDR such as 10.244.0.0/16 or fd00:10:244::/56"))?;
    Ok(net.trunc())
}

fn cidrs(text: &str) -> Result<Cidrs, String> {
    let words = text.split(',').filter(|word| !word.trim().is_empty());
    words.map(cidr).collect::<Result<_, _>>().map(Cidrs)
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
    use super::*;

    fn read(args: &[&str]) -> Result<Cli, String> {
        let args = std::iter::once("pointsman").chain(args.iter().copied()).map(OsString::from);
        Cli::read(args).map_err(|error| one_line(&error))
    }

    #[test]
    fn booleans_are_written_as_pflag_writes_them() {
        assert!(!read(&[]).unwrap().masquerade_all);
        assert!(read(&["--masquerade-all"]).unwrap().masquerade_all);
        assert!(read(&["--masquerade-all=T"]).unwrap().masquerade_all);
        assert!(!read(&["--masquerade-all=false"]).unwrap().masquerade_all);
        assert!(read(&["--masquerade-all=false", "--masquerade-all"]).unwrap().masquerade_all);
        let error = read(&["--masquerade-all=maybe"]).unwrap_err();
        assert!(error.contains("maybe") && error.contains("true or false"), "{error}");
    }

    #[test]
    fn verbosity_is_written_as_klog_writes_it() {
        for args in [&["-v", "4"][..], &["-v=4"], &["-v4"], &["--v=4"], &["--v", "4"]] {
            assert_eq!(read(args).unwrap().verbosity, 4, "{args:?}");
        }
    }

    #[test]
    fn lists_take_commas_and_repetition() {
        let cli = read(&["--cluster-cidr", "10.1.2.3/16,fd00::/56"]).unwrap();
        assert_eq!(cli.cluster_cidr.0, ["10.1.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()]);
        let cli = read(&["--nodeport-addresses=10.0.0.0/8", "--nodeport-addresses=fd00::/8"]).unwrap();
        assert_eq!(cli.nodeport_addresses, ["10.0.0.0/8", "fd00::/8"]);
    }

    #[test]
    fn lengths_of_time_are_written_as_go_writes_them() {
        for (text, seconds) in
            [("30s", 30.0), ("1m30s", 90.0), ("1m0s", 60.0), ("1.5h", 5400.0), ("500ms", 0.5)]
        {
            let cli = read(&["--iptables-sync-period", text]).unwrap();
            assert_eq!(cli.iptables_sync_period, Duration::from_secs_f64(seconds), "{text}");
        }
        for text in ["0s", "-1s", "soon", ""] {
            let error = read(&[&*format!("--watch-silence={text}")]).unwrap_err();
            assert!(error.contains("--watch-silence") && error.contains("1m30s"), "{error}");
        }
    }

    #[test]
    fn addresses_to_listen_on_have_a_port_or_the_usual_one() {
        let of = |text: &str| read(&["--healthz-bind-address", text]).map(|cli| cli.healthz_bind_address.0);
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("127.0.0.1:1"), Ok(Some("127.0.0.1:1".parse().unwrap())));
        assert_eq!(of("[::1]:1"), Ok(Some("[::1]:1".parse().unwrap())));
        assert_eq!(of("::"), Ok(Some("[::]:10256".parse().unwrap())));
        assert!(of("localhost:80").is_err_and(|error| error.contains("localhost:80")));
    }

    #[test]
    fn ipvs_is_told_what_kube_proxy_would_tell_it() {
        let of = |args: &[&str]| read(args).map(|cli| cli.ipvs.options());
        let default = of(&[]).unwrap();
        assert_eq!((default.scheduler.as_str(), default.sync_period), ("rr", Duration::from_secs(30)));
        assert_eq!(of(&["--ipvs-scheduler=", "--ipvs-tcp-timeout=0"]).unwrap(), default);
        let flags = ["--ipvs-scheduler=lc", "--ipvs-tcp-timeout=15m0s", "--ipvs-udp-timeout=300s"];
        let options = of(&flags).unwrap();
        assert_eq!(
            (options.scheduler.as_str(), options.timeouts.tcp, options.timeouts.udp),
            ("lc", 900, 300)
        );
        let excluded = of(&["--ipvs-exclude-cidrs=10.1.2.3/8,fd00::/8"]).unwrap().exclude_cidrs;
        assert_eq!(excluded, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (flag, part) in [
            ("--ipvs-scheduler=R R", "lower-case"),
            ("--ipvs-tcp-timeout=1.5s", "whole seconds"),
            ("--ipvs-tcpfin-timeout=-1s", "whole seconds"),
            ("--ipvs-exclude-cidrs=10.0.0.0/33", "10.0.0.0/33"),
        ] {
            let error = of(&[flag]).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
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
    fn an_empty_value_asks_for_the_default() {
        let empty =
            ["--proxy-mode=", "--cluster-cidr=", "--detect-local-mode=", "--kubeconfig=", "--master="];
        let cli = read(&empty).unwrap();
        assert_eq!((cli.cluster_cidr.0.len(), cli.detect_local_mode), (0, DetectLocalMode::ClusterCidr));
    }

    #[test]
    fn an_error_is_one_line_that_names_the_flag() {
        for (args, words) in [
            (&["--cluster-cidr", "10.0.0.0/33"][..], ["--cluster-cidr", "10.0.0.0/33"]),
            (&["--iptables-masquerade-bit=32"], ["--iptables-masquerade-bit", "0..=31"]),
            (&["--detect-local-mode=Guess"], ["--detect-local-mode", "BridgeInterface"]),
            (&["--iptables-backend=old"], ["--iptables-backend", "legacy"]),
            (&["--proxy-mode=pigeon"], ["--proxy-mode", "nftables"]),
            (&["--bind-address=here"], ["--bind-address", "here"]),
            (&["--masqerade-all"], ["--masqerade-all", "'--masquerade-all'"]),
            (&["stray"], ["stray", "--help"]),
        ] {
            let error = read(args).unwrap_err();
            assert!(!error.contains('\n') && words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
