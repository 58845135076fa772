//! The page of metrics, read by a parser that is not ours: kube-proxy's names, types, labels and buckets, and values that
//! follow what is done.

use anyhow::{Context, Result, bail, ensure};
use prometheus_parse::{Sample, Scrape, Value};
use serde_json::json;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::mode::Tool;
use testbed::{Iptables, POD_PORT, Protocol};

use crate::subject::Subject;

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// What every mode tells, with its type and labels. A histogram has the number of its buckets, the last one included.
const EVERYWHERE: [(&str, Kind, &[&str]); 17] = [
    ("kubeproxy_sync_proxy_rules_duration_seconds", Kind::Histogram(16), &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", Kind::Gauge, &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", Kind::Gauge, &["ip_family"]),
    ("kubeproxy_network_programming_duration_seconds", Kind::Histogram(82), &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", Kind::Gauge, &[]),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", Kind::Counter, &[]),
    ("kubeproxy_sync_proxy_rules_service_changes_pending", Kind::Gauge, &[]),
    ("kubeproxy_sync_proxy_rules_service_changes_total", Kind::Counter, &[]),
    ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", Kind::Gauge, &["ip_family", "traffic_policy"]),
    ("kubeproxy_proxy_healthz_total", Kind::Counter, &["code"]),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", Kind::Histogram(16), &["ip_family"]),
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", Kind::Counter, &["ip_family"]),
    ("rest_client_requests_total", Kind::Counter, &["code", "host", "method"]),
    ("rest_client_request_duration_seconds", Kind::Histogram(13), &["host", "verb"]),
    ("process_cpu_seconds_total", Kind::Counter, &[]),
    ("process_resident_memory_bytes", Kind::Gauge, &[]),
    ("kubernetes_build_info", Kind::Gauge, &["compiler", "git_version", "major", "minor", "platform"]),
];

const FULL: (&str, Kind, &[&str]) =
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", Kind::Histogram(16), &["ip_family"]);
const PARTIAL: (&str, Kind, &[&str]) =
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", Kind::Histogram(16), &["ip_family"]);

/// What only nftables mode tells, and only iptables mode.
const NFTABLES: [(&str, Kind, &[&str]); 4] = [
    FULL,
    PARTIAL,
    ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", Kind::Counter, &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", Kind::Counter, &["ip_family"]),
];
const IPTABLES: [(&str, Kind, &[&str]); 6] = [
    FULL,
    PARTIAL,
    ("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", Kind::Counter, &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", Kind::Counter, &["ip_family"]),
    ("kubeproxy_sync_proxy_rules_iptables_total", Kind::Gauge, &["ip_family", "table"]),
    ("kubeproxy_sync_proxy_rules_iptables_last", Kind::Gauge, &["ip_family", "table"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram(usize),
}

/// A page, as the parser has it.
struct Page(Scrape);

impl Page {
    fn read(subject: &Subject) -> Result<Self> {
        let answer = subject.metrics("text/plain;version=0.0.4")?;
        let kind = answer.header("content-type").unwrap_or_default();
        ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Ok(Self(Scrape::parse(answer.body.lines().map(|line| Ok(line.to_owned())))?))
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.samples.iter().filter(move |sample| sample.metric == name)
    }

    /// The value with these labels among others; a histogram's is that of its last bucket.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let has =
            |sample: &&Sample| labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value));
        let sample = self.of(name).find(has).with_context(|| format!("no {name} {labels:?}"))?;
        match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Ok(*value),
            Value::Histogram(buckets) => Ok(buckets.last().context("no buckets")?.count),
            Value::Summary(_) => bail!("{name} is a summary"),
        }
    }

    fn check(&self, (name, kind, labels): &(&str, Kind, &[&str])) -> Result<()> {
        ensure!(self.of(name).next().is_some(), "there is no {name}");
        for sample in self.of(name) {
            let found = match &sample.value {
                Value::Counter(_) => Kind::Counter,
                Value::Gauge(_) => Kind::Gauge,
                Value::Histogram(buckets) => Kind::Histogram(buckets.len()),
                other => bail!("{name} is {other:?}"),
            };
            ensure!(found == *kind, "{name} is a {found:?}, not a {kind:?}");
            let mut found: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            found.sort_unstable();
            ensure!(found == **labels, "{name} has labels {found:?}, not {labels:?}");
        }
        Ok(())
    }
}

/// A slice whose annotation says that something happened just now.
fn triggered(subject: &mut Subject, name: &str, slice: &Slice) {
    let mut slice = slice.to_json();
    let now = jiff::Timestamp::now().to_string();
    slice["metadata"]["annotations"] = json!({ "endpoints.kubernetes.io/last-change-trigger-time": now });
    subject.cluster.delete_slice(name);
    subject.cluster.put_other(name, slice);
}

/// How often something was programmed, by the log.
fn programmed(subject: &mut Subject) -> Result<u32> {
    let log = subject.proxy()?.log();
    let syncs = log.lines().filter(|line| line.contains("synced changes="));
    Ok(syncs.map(|line| u32::from(!line.contains("changes=0 "))).sum())
}

pub(crate) fn the_page_has_kube_proxys_metrics_and_they_count_what_is_done(
    subject: &mut Subject,
) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    subject.health()?;
    subject.await_quiet()?;
    let (before, syncs) = (Page::read(subject)?, programmed(subject)?);

    // A change, and a Service that has endpoints elsewhere only.
    let endpoints = [Endpoint::of(subject.bed.pod(2), subject.family)];
    let slice = Slice::new("web", subject.family, endpoints).port("http", Protocol::Tcp, POD_PORT);
    triggered(subject, "web", &slice);
    let mut local = Service::new("local", subject.family.cluster_ip(11)).tcp("http", 80);
    local.internal_local = true;
    let remote = [Endpoint::of(subject.bed.remote_pod(1), subject.family)];
    subject.cluster.put(local);
    subject.cluster.put_slice(Slice::new("local", subject.family, remote).port(
        "http",
        Protocol::Tcp,
        POD_PORT,
    ));
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    subject.await_quiet()?;
    let (after, more_syncs) = (Page::read(subject)?, programmed(subject)?);

    let of_mode: &[_] = match subject.mode().name {
        "nftables" => &NFTABLES,
        name if name.starts_with("iptables") => &IPTABLES,
        _ => &[],
    };
    EVERYWHERE.iter().chain(of_mode).try_for_each(|wanted| after.check(wanted))?;
    let others = NFTABLES.iter().chain(&IPTABLES).filter(|other| !of_mode.contains(other));
    for (name, _, _) in others {
        ensure!(after.of(name).next().is_none(), "{name} is another mode's");
    }
    check_growth(subject, &before, &after, more_syncs - syncs)?;
    check_rules(subject, &after)?;
    check_open_metrics(subject)
}

fn check_growth(subject: &Subject, before: &Page, after: &Page, syncs: u32) -> Result<()> {
    let family = subject.family.name();
    let of_family = [("ip_family", family)];
    let grew = |name: &str, labels: &[(&str, &str)], by: f64| -> Result<()> {
        let (was, is) = (before.value(name, labels)?, after.value(name, labels)?);
        ensure!(is - was == by, "{name} grew from {was} to {is}, not by {by}");
        Ok(())
    };
    ensure!(syncs > 0, "nothing was programmed");
    for family in ["IPv4", "IPv6"] {
        grew("kubeproxy_sync_proxy_rules_duration_seconds", &[("ip_family", family)], syncs.into())?;
    }
    grew("kubeproxy_sync_proxy_rules_service_changes_total", &[], 1.0)?;
    grew("kubeproxy_sync_proxy_rules_endpoint_changes_total", &[], 2.0)?;
    grew("kubeproxy_network_programming_duration_seconds", &of_family, 1.0)?;
    let policy = |policy| [("ip_family", family), ("traffic_policy", policy)];
    grew("kubeproxy_sync_proxy_rules_no_local_endpoints_total", &policy("internal"), 1.0)?;
    grew("kubeproxy_sync_proxy_rules_no_local_endpoints_total", &policy("external"), 0.0)?;
    let value = |name: &str, labels: &[(&str, &str)]| after.value(name, labels);
    for kind in ["endpoint", "service"] {
        let name = format!("kubeproxy_sync_proxy_rules_{kind}_changes_pending");
        ensure!(value(&name, &[])? == 0.0, "changes are pending");
    }
    ensure!(value("kubeproxy_proxy_healthz_total", &[("code", "200")])? == 1.0, "one probe was made");
    let queued = value("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", &of_family)?;
    let synced = value("kubeproxy_sync_proxy_rules_last_timestamp_seconds", &of_family)?;
    ensure!(queued > 1.7e9 && synced >= queued, "queued at {queued}, synced at {synced}");
    // A list or a watch of each of four kinds.
    let host = subject.server.address().to_string();
    let got = value("rest_client_requests_total", &[("method", "GET"), ("code", "200"), ("host", &host)])?;
    ensure!(got >= 4.0, "{got} requests");
    ensure!(value("process_open_fds", &[])? > 3.0 && value("process_max_fds", &[])? > 3.0);
    Ok(())
}

/// As many rules as `iptables-save` shows: in these namespaces, all are ours.
fn check_rules(subject: &Subject, page: &Page) -> Result<()> {
    let Tool::Iptables(backend) = subject.mode().tool else { return Ok(()) };
    if subject.mode().is_userspace() {
        return Ok(());
    }
    let saved = Iptables { node: &subject.bed.node, backend, family: subject.family }.save()?;
    let mut table = "";
    let (mut nat, mut filter) = (0.0, 0.0);
    for line in saved.lines() {
        match line.strip_prefix('*') {
            Some(name) => table = name,
            None if line.starts_with("-A ") && table == "nat" => nat += 1.0,
            None if line.starts_with("-A ") && table == "filter" => filter += 1.0,
            None => {}
        }
    }
    let mut written = 0.0;
    for (table, rules) in [("nat", nat), ("filter", filter)] {
        let labels = [("ip_family", subject.family.name()), ("table", table)];
        let told = page.value("kubeproxy_sync_proxy_rules_iptables_total", &labels)?;
        ensure!(told == rules && rules > 0.0, "{told} rules in {table}, not {rules}:\n{saved}");
        written += page.value("kubeproxy_sync_proxy_rules_iptables_last", &labels)?;
    }
    // The last sync was of either change.
    ensure!(written > 0.0, "the last sync wrote no rule");
    Ok(())
}

fn check_open_metrics(subject: &Subject) -> Result<()> {
    let answer = subject.metrics(OPEN_METRICS)?;
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = &answer.body;
    ensure!(text.ends_with("# EOF\n"), "{text}");
    ensure!(text.contains("# TYPE kubeproxy_sync_proxy_rules_service_changes counter\n"), "{text}");
    Ok(())
}
