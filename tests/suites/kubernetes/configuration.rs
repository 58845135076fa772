//! A configuration file, mounted as a ConfigMap is: what it says counts, and when it is replaced, that counts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Family, Subject, http, under_traffic};

testbed::scenarios![
    Subject:
    a_file_counts_and_flags_do_not,
    a_replaced_config_map_is_followed_in_flight,
    what_takes_another_process_ends_this_one,
    a_broken_file_changes_nothing,
    what_is_in_force_can_be_asked_for,
    init_only_sets_parameters_and_ends,
    logs_are_for_machines_on_request,
];

const PODS: [&str; 2] = ["pod-1", "remote-1"];

/// Files as the kubelet mounts a ConfigMap: each is a link through `..data`, which is what is replaced.
struct ConfigMap {
    folder: TempDir,
    versions: usize,
}

impl ConfigMap {
    fn mount(text: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let mut map = Self { folder, versions: 0 };
        map.replace(text)?;
        symlink("..data/config.conf", map.file())?;
        Ok(map)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("config.conf")
    }

    fn replace(&mut self, text: &str) -> Result<()> {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        let folder: &Path = self.folder.path();
        fs::create_dir(folder.join(&version))?;
        fs::write(folder.join(&version).join("config.conf"), text)?;
        symlink(&version, folder.join("..data_tmp"))?;
        fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
        if self.versions > 1 {
            fs::remove_dir_all(folder.join(format!("..version-{}", self.versions - 1)))?;
        }
        Ok(())
    }
}

/// A configuration for the scenario's mode.
fn configuration(s: &Subject, fields: &str) -> String {
    let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
    let mode = mode(s);
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n\
         clusterCIDR: {cidrs}\n{fields}\n"
    )
}

fn mode(s: &Subject) -> &'static str {
    match s.mode().name {
        name if name.starts_with("iptables") => "iptables",
        _ => "nftables",
    }
}

/// Masquerades what pods send to ClusterIPs, in every mode.
const MASQUERADE: &str = "nftables: {masqueradeAll: true}\niptables: {masqueradeAll: true}";

/// Runs the proxy with a file, which alone says where pods are.
fn run_with(s: &mut Subject, map: &ConfigMap, more: &[&str]) -> Result<()> {
    let file = map.file();
    s.only_args(&[&["--config", &file.to_string_lossy()][..], more].concat());
    s.serve_web(&PODS)
}

fn a_file_counts_and_flags_do_not(s: &mut Subject) -> Result<()> {
    let map = ConfigMap::mount(&configuration(s, "hostnameOverride: another\nmasqeradeAll: true"))?;
    run_with(s, &map, &["--masquerade-all", "--proxy-mode=ipvs"])?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    s.reaches(s.client(), s.web_address(), &PODS, Masqueraded)?;
    let log = s.proxy()?.log();
    ensure!(log.contains("these flags do not count: "), "{log}");
    ensure!(log.contains("--masquerade-all") && log.contains("--proxy-mode"), "{log}");
    ensure!(log.contains("masqeradeAll: there is no such field"), "{log}");
    ensure!(log.contains("node=\"node\""), "the flag --hostname-override counts all the same: {log}");
    Ok(())
}

fn a_replaced_config_map_is_followed_in_flight(s: &mut Subject) -> Result<()> {
    let mut map = ConfigMap::mount(&configuration(s, ""))?;
    run_with(s, &map, &[])?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    let proxy = s.take_proxy()?;
    let changed = configuration(s, MASQUERADE);
    let followed = under_traffic(s.pod(3).place, s.web_address(), || {
        proxy.await_sync_after(|| map.replace(&changed))?;
        proxy.await_line_with("the configuration changed: following").map(drop)
    });
    s.give_proxy(proxy);
    followed?;
    s.reaches(s.pod(3), s.web_address(), &PODS, Masqueraded)?;
    // The same process goes on.
    let slice = s.slice("web", &["pod-2"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-2"], Masqueraded).map(drop)
}

fn what_takes_another_process_ends_this_one(s: &mut Subject) -> Result<()> {
    let mut map = ConfigMap::mount(&configuration(s, ""))?;
    run_with(s, &map, &[])?;
    let changed = configuration(s, "metricsBindAddress: 127.0.0.1:20249");
    let mut proxy = s.take_proxy()?;
    let started = under_traffic(s.pod(3).place, s.web_address(), || {
        map.replace(&changed)?;
        let status = proxy.await_end()?;
        ensure!(status.success(), "{status}");
        proxy.start_again(&s.bed.node)
    });
    s.give_proxy(proxy);
    started?;
    let log = s.proxy()?.log();
    ensure!(log.contains("fields=\"metricsBindAddress\""), "{log}");
    ensure!(page(s, 20249, "/proxyMode")? == mode(s));
    Ok(())
}

fn a_broken_file_changes_nothing(s: &mut Subject) -> Result<()> {
    let mut map = ConfigMap::mount(&configuration(s, ""))?;
    run_with(s, &map, &[])?;
    for broken in
        ["", "mode: [", &configuration(s, "conntrack: {min: many}"), &configuration(s, "oomScoreAdj: 9999")]
    {
        let proxy = s.proxy()?;
        proxy.await_line_after("what it said before counts", || map.replace(broken))?;
        s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    }
    let proxy = s.take_proxy()?;
    let mended = configuration(s, MASQUERADE);
    let followed = proxy.await_sync_after(|| map.replace(&mended));
    s.give_proxy(proxy);
    followed?;
    s.reaches(s.pod(3), s.web_address(), &PODS, Masqueraded).map(drop)
}

fn what_is_in_force_can_be_asked_for(s: &mut Subject) -> Result<()> {
    let map = ConfigMap::mount(&configuration(s, "conntrack: {min: 4711}"))?;
    run_with(s, &map, &["--v=2"])?;
    let configz: Value = serde_json::from_str(&page(s, 10249, "/configz")?)?;
    let configuration = &configz["kubeproxy.config.k8s.io"];
    ensure!(configuration["kind"] == "KubeProxyConfiguration", "{configz}");
    ensure!(configuration["conntrack"]["min"] == 4711, "{configz}");
    ensure!(configuration["logging"]["verbosity"] == 2, "{configz}");
    let flags = page(s, 10249, "/flagz")?;
    ensure!(flags.lines().any(|line| line == "hostname-override=node"), "{flags}");
    let status = page(s, 10249, "/statusz")?;
    ensure!(status.contains("Binary version: ") && status.contains("Node: node"), "{status}");
    ensure!(page(s, 10249, "/healthz")? == "ok");
    Ok(())
}

fn init_only_sets_parameters_and_ends(s: &mut Subject) -> Result<()> {
    const CLOSE_WAIT: &str = "net.netfilter.nf_conntrack_tcp_timeout_close_wait";
    let fields = "conntrack: {maxPerCore: 0, tcpCloseWaitTimeout: 17s}\nhostnameOverride: node";
    let map = ConfigMap::mount(&configuration(s, fields))?;
    let program = testbed::binary()?;
    let (program, file) = (program.to_string_lossy(), map.file());
    let command = ["--init-only", "--config", &file.to_string_lossy()];
    s.bed.node.output(&program, &command)?;
    let value = s.bed.node.output("cat", &[&format!("/proc/sys/{}", CLOSE_WAIT.replace('.', "/"))])?;
    ensure!(value.trim() == "17", "{CLOSE_WAIT} is {value}");
    let rules = s.rules().listing()?;
    ensure!(!rules.contains("KUBE-SERVICES") && !rules.contains("table ip pointsman"), "{rules}");
    Ok(())
}

fn logs_are_for_machines_on_request(s: &mut Subject) -> Result<()> {
    let map = ConfigMap::mount(&configuration(s, "logging: {format: json}"))?;
    run_with(s, &map, &[])?;
    let log = s.proxy()?.log();
    let lines: Vec<Value> =
        log.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| log.clone())?;
    let synced = lines.iter().find(|line| line["message"] == "synced").context("no line of a sync")?;
    ensure!(synced["level"] == "INFO" && synced["changes"] == 1, "{synced}");
    ensure!(synced["operations"].as_u64() > Some(0) && synced["duration_ms"].is_f64(), "{synced}");
    Ok(())
}

fn page(s: &Subject, port: u16, path: &str) -> Result<String> {
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    match http::get(&s.bed.node, address, path)? {
        (200, body) => Ok(body),
        other => bail!("{path}: {other:?}"),
    }
}
