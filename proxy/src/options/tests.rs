use super::*;
use crate::cli;

fn cli(args: &[&str]) -> Cli {
    Cli::read(std::iter::once("pointsman").chain(args.iter().copied()).map(Into::into)).unwrap()
}

/// What flags ask for, or why they make no sense, in terms of flags.
fn options(args: &[&str]) -> Result<Options, String> {
    Options::of(&cli(args).configured.configuration())
        .map_err(|invalid| invalid.iter().map(|one| one.told(cli::flag)).collect::<Vec<_>>().join("; "))
}

fn settings(args: &[&str]) -> Settings {
    options(args).unwrap().settings
}

#[test]
fn no_flags_mean_the_defaults() {
    let options = options(&[]).unwrap();
    assert_eq!(options.settings, Settings::default());
    assert_eq!(options.conntrack, Conntrack::default());
    assert_eq!((options.mode, options.oom_score_adj), (ModeName::Nftables, -999));
    assert_eq!((options.stale_after, options.min_sync_period), (Duration::from_secs(60), Duration::ZERO));
    let ipvs = options.ipvs;
    assert_eq!((ipvs.scheduler.as_str(), ipvs.sync_period), ("rr", Duration::from_secs(30)));
}

#[test]
fn what_makes_no_sense_is_told_by_the_name_that_the_user_gave_it() {
    for (args, words) in [
        (&["--cluster-cidr", "10.0.0.0/33"][..], ["--cluster-cidr: ", "10.0.0.0/33"]),
        (&["--cluster-cidr=10.0.0.0/8,11.0.0.0/8"], ["--cluster-cidr: ", "two of IPv4"]),
        (&["--iptables-masquerade-bit=32"], ["--iptables-masquerade-bit: 32", "0 to 31"]),
        (&["--detect-local-mode=Guess"], ["--detect-local-mode: \"Guess\"", "BridgeInterface"]),
        (&["--detect-local-mode=BridgeInterface"], ["--detect-local-mode: ", "needs --pod-bridge-interface"]),
        (
            &["--detect-local-mode=InterfaceNamePrefix"],
            ["--detect-local-mode: ", "needs --pod-interface-name-prefix"],
        ),
        (&["--proxy-mode=pigeon"], ["--proxy-mode: \"pigeon\"", "nftables"]),
        (&["--bind-address=here"], ["--bind-address: ", "here"]),
        (&["--healthz-bind-address=localhost:80"], ["--healthz-bind-address: ", "localhost:80"]),
        (&["--metrics-bind-address=127.0.0.1:0"], ["--metrics-bind-address: ", "127.0.0.1:10249"]),
        (&["--iptables-sync-period=0s"], ["--iptables-sync-period: 0s", "1m30s"]),
        (&["--iptables-min-sync-period=1m"], ["--iptables-min-sync-period: ", "--iptables-sync-period"]),
        (&["--proxy-mode=ipvs", "--ipvs-min-sync-period=-1s"], ["--ipvs-min-sync-period: -1s", "less"]),
        (&["--ipvs-scheduler=R R"], ["--ipvs-scheduler: ", "lower-case"]),
        (&["--ipvs-tcp-timeout=1.5s"], ["--ipvs-tcp-timeout: ", "whole seconds"]),
        (&["--ipvs-tcpfin-timeout=-1s"], ["--ipvs-tcpfin-timeout: ", "whole seconds"]),
        (&["--ipvs-exclude-cidrs=10.0.0.0/33"], ["--ipvs-exclude-cidrs: ", "10.0.0.0/33"]),
        (&["--conntrack-min=-1"], ["--conntrack-min: -1", "less than nothing"]),
        (&["--oom-score-adj=-1001"], ["--oom-score-adj: -1001", "-1000 to 1000"]),
        (&["--nodeport-addresses=10.0.0.1"], ["--nodeport-addresses: ", "10.0.0.1"]),
        (&["--nodeport-addresses=primary,10.0.0.0/8"], ["--nodeport-addresses: ", "not both"]),
        (&["--hostname-override= "], ["--hostname-override: ", "blank"]),
    ] {
        let error = options(args).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{args:?}: {error}");
    }
}

#[test]
fn everything_that_makes_no_sense_is_told_at_once() {
    let error = options(&["--cluster-cidr=x", "--bind-address=y", "--proxy-mode=z"]).unwrap_err();
    assert_eq!(error.matches("; ").count(), 2, "{error}");
}

#[test]
fn an_empty_value_asks_for_the_default() {
    let empty =
        ["--proxy-mode=", "--cluster-cidr=", "--detect-local-mode=", "--kubeconfig=", "--ipvs-scheduler="];
    assert_eq!(options(&empty), options(&[]));
}

#[test]
fn addresses_to_listen_on_have_a_port_or_the_usual_one() {
    let of = |text: &str| options(&["--healthz-bind-address", text]).unwrap().healthz;
    assert_eq!(of(""), None);
    assert_eq!(of("127.0.0.1:1"), Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(of("[::1]:1"), Some("[::1]:1".parse().unwrap()));
    assert_eq!(of("::"), Some("[::]:10256".parse().unwrap()));
}

#[test]
fn a_specific_bind_address_is_the_node_address() {
    assert_eq!(settings(&["--bind-address=::"]).node_address, None);
    let address = settings(&["--bind-address=192.0.2.1"]).node_address;
    assert_eq!(address, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn bits_that_userspace_mode_marks_with_are_its_own() {
    for (bit, taken) in [(11, false), (12, true), (13, true), (14, false)] {
        let flag = format!("--iptables-masquerade-bit={bit}");
        assert_eq!(options(&[&flag, "--proxy-mode=userspace"]).is_err(), taken, "{bit}");
        assert!(options(&[&flag]).is_ok());
    }
}

#[test]
fn periods_are_the_modes_own() {
    let of = |mode: &str| {
        let mode = format!("--proxy-mode={mode}");
        let flags =
            [&*mode, "--iptables-sync-period=10s", "--iptables-min-sync-period=1s", "--ipvs-sync-period=20s"];
        let options = options(&flags).unwrap();
        (options.stale_after.as_secs(), options.min_sync_period.as_secs())
    };
    for mode in ["nftables", "iptables", "userspace"] {
        assert_eq!(of(mode), (20, 1), "{mode}");
    }
    assert_eq!(of("ipvs"), (40, 0));
}

#[test]
fn ipvs_is_told_what_kube_proxy_would_tell_it() {
    let flags = ["--ipvs-scheduler=lc", "--ipvs-tcp-timeout=15m0s", "--ipvs-udp-timeout=300s"];
    let ipvs = options(&flags).unwrap().ipvs;
    assert_eq!((ipvs.scheduler.as_str(), ipvs.timeouts.tcp, ipvs.timeouts.udp), ("lc", 900, 300));
    let excluded = options(&["--ipvs-exclude-cidrs=10.1.2.3/8,fd00::/8"]).unwrap().ipvs.exclude_cidrs;
    assert_eq!(excluded, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
}

#[test]
fn pods_are_told_by_what_the_user_says() {
    let of = |args: &[&str]| settings(args).detect_local;
    let cidrs = ["10.1.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()];
    assert_eq!(of(&["--cluster-cidr", "10.1.2.3/16,fd00::/56"]), DetectLocal::ClusterCidr(cidrs.into()));
    assert_eq!(of(&["--detect-local-mode=NodeCIDR"]), DetectLocal::NodeCidr);
    let bridge = ["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"];
    assert_eq!(of(&bridge), DetectLocal::BridgeInterface("cni0".to_owned()));
}

#[test]
fn node_port_addresses_are_cidrs_or_primary() {
    let of = |text: &str| settings(&["--nodeport-addresses", text]).node_port_addresses;
    assert_eq!(of(""), NodePortAddresses::Default);
    assert_eq!(of("primary"), NodePortAddresses::Primary);
    assert_eq!(of("10.1.2.3/8"), NodePortAddresses::Cidrs(vec!["10.0.0.0/8".parse().unwrap()]));
}

#[test]
fn objects_come_from_a_folder_or_an_api_server() {
    let of = |args: &[&str]| options(args).unwrap().origin(&cli(args)).to_string();
    assert_eq!(of(&["--manifests=/m", "--kubeconfig=/k"]), "manifests /m");
    assert_eq!(of(&["--kubeconfig=/k"]), "kubeconfig /k");
    assert_eq!(of(&["--kubeconfig=/k", "--master=https://a"]), "kubeconfig /k at https://a");
    assert_eq!(of(&["--master=https://a"]), "https://a");
    assert_eq!(of(&["--kubeconfig=", "--master="]), "the pod's service account");
}

#[test]
fn the_node_name_is_lower_case_and_trimmed() {
    let of = |args: &[&str]| options(args).unwrap().node_name().unwrap();
    assert_eq!(of(&["--hostname-override", " Node-A "]), "node-a");
    assert_eq!(of(&[]), of(&[]).to_lowercase());
    assert_eq!(of(&["--hostname-override="]), of(&[]));
}
