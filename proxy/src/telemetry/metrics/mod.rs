//! The numbers that a Prometheus server collects: kube-proxy's by its names, so that what watched it goes on working, and
//! ours under `pointsman_`.

mod build;
#[cfg(test)]
mod dashboards;
mod kube_proxy;
mod own;
mod page;
mod process;
mod requests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use endpoint_cache::object::Kind;
use endpoint_cache::{Family, Tally};
use jiff::Timestamp;
use modes::Report;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Network, Policies, Traffic};
use kube_proxy::KubeProxy;
use own::Own;
pub(crate) use page::Page;
use process::Process;
pub(crate) use requests::Requests;

type Labels = Vec<(&'static str, &'static str)>;
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Every metric, and the registries that print them.
#[derive(Debug)]
pub(crate) struct Metrics {
    own: Own,
    kube_proxy: KubeProxy,
    /// Requests to the API server.
    pub(crate) requests: Requests,
    registry: Registry,
    policies: Arc<Policies>,
    /// What is told of policies, if they are enforced.
    of_policies: Registry,
    network: Arc<Network>,
    /// What is told of the pod network, if there is one.
    of_network: Registry,
    /// What is asked for, once it is known.
    served: OnceLock<Served>,
}

/// What is programmed.
#[derive(Debug)]
struct Served {
    mode: &'static str,
    families: Vec<Family>,
}

/// What a sync starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What the kernel is read to hold.
    Full,
    /// What changed.
    Partial,
}

/// What is asked on the health port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `/healthz`
    Healthz,
    /// `/livez`
    Livez,
}

impl Metrics {
    /// Nothing has happened yet. What is carried is asked for whenever somebody asks us.
    pub(crate) fn new(traffic: Traffic, policies: &Arc<Policies>, network: &Arc<Network>) -> Self {
        let mut registry = Registry::default();
        let requests = Requests::register(&mut registry);
        build::register(&mut registry);
        registry.register_collector(Box::new(Process));
        Self {
            own: Own::new(traffic),
            kube_proxy: KubeProxy::new(),
            requests,
            registry,
            policies: Arc::clone(policies),
            of_policies: Policies::registry(policies),
            network: Arc::clone(network),
            of_network: Network::registry(network),
            served: OnceLock::new(),
        }
    }

    /// From now on, a mode of this name programs these families. Only its metrics are on the page.
    pub(crate) fn serves(&self, mode: &'static str, families: Vec<Family>) {
        self.kube_proxy.begin(&families);
        // A process has one mode.
        let _ = self.served.set(Served { mode, families });
    }

    fn families(&self) -> &[Family] {
        self.served.get().map_or(&[], |served| &served.families)
    }

    /// There is something to be programmed.
    pub(crate) fn queued(&self) {
        self.kube_proxy.queued(self.families());
    }

    /// The cache was given objects.
    pub(crate) fn given(&self, before: &Tally, now: &Tally) {
        self.kube_proxy.given(before, now);
    }

    /// So much of what the cache was given is not in force yet.
    pub(crate) fn pending(&self, in_force: &Tally, now: &Tally) {
        self.kube_proxy.pending(in_force, now);
    }

    /// A sync programmed what it should.
    pub(crate) fn synced(&self, extent: Extent, report: &Report, duration: Duration) {
        self.own.synced(extent, duration);
        self.kube_proxy.synced(self.families(), extent, report, duration);
    }

    /// Everything is in force.
    pub(crate) fn in_force(&self) {
        self.own.in_force();
        self.kube_proxy.in_force(self.families());
    }

    /// A sync failed; of iptables, or something else.
    pub(crate) fn sync_failed(&self, extent: Extent, of_iptables: bool, duration: Duration) {
        self.own.sync_failures.inc();
        self.kube_proxy.sync_failed(self.families(), extent, of_iptables, duration);
    }

    /// What is without use could not be removed.
    pub(crate) fn tidying_failed(&self) {
        self.own.sync_failures.inc();
        self.kube_proxy.tidying_failed(self.families());
    }

    /// What happened so long ago is in force in a family.
    pub(crate) fn programmed(&self, family: Family, latency: Duration) {
        self.kube_proxy.programmed(family, latency);
    }

    /// So many more service ports (or fewer) have endpoints elsewhere only, which the policy Local for traffic from
    /// inside or outside does not let them use.
    pub(crate) fn without_local_endpoints(&self, family: Family, traffic: Origin, more: i64) {
        self.kube_proxy.without_local_endpoints(family, traffic, more);
    }

    /// A probe was answered with this status.
    pub(crate) fn probed(&self, probe: Probe, code: u16) {
        self.kube_proxy.probed(probe, code);
    }

    /// Others changed our rules, and they are put right.
    pub(crate) fn repaired(&self) {
        self.own.repairs.inc();
    }

    /// What others changed took so many operations to put right.
    pub(crate) fn repair_took(&self, operations: usize) {
        self.own.repair_operations.inc_by(u64::try_from(operations).unwrap_or(u64::MAX));
    }

    /// So many service ports are refused by the kernel and left out.
    pub(crate) fn set_left_out(&self, count: usize) {
        self.own.left_out.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many service ports are left out.
    pub(crate) fn left_out(&self) -> i64 {
        self.own.left_out.get()
    }

    /// An object could not be decoded.
    pub(crate) fn bad_object(&self, kind: Kind) {
        self.own.bad_object(kind);
    }

    /// A full list was taken in.
    pub(crate) fn listed(&self, kind: Kind) {
        self.own.listed(kind);
    }

    pub(super) fn heard(&self, kind: Kind) {
        self.own.heard(kind);
    }

    pub(super) fn watch_failed(&self, kind: Kind, reason: &'static str) {
        self.own.watch_failed(kind, reason);
    }

    /// All of them, in the format that suits a request with this `Accept` header.
    pub(crate) fn page(&self, accept: Option<&str>) -> Page {
        Page::new(accept, self.text())
    }

    /// All of them, as OpenMetrics has it.
    fn text(&self) -> String {
        let mut text = String::new();
        let of_mode = self.served.get().and_then(|served| self.kube_proxy.of_mode(served.mode));
        let registries = [&self.own.registry, &self.kube_proxy.registry, &self.registry];
        let of_policies = self.policies.now().map(|_| &self.of_policies);
        let of_network = self.network.now().map(|_| &self.of_network);
        for registry in registries.into_iter().chain(of_mode).chain(of_policies).chain(of_network) {
            // Writing to a string cannot fail.
            let _ = encode_registry(&mut text, registry);
        }
        let _ = encode_eof(&mut text);
        text
    }
}

/// Where traffic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// To the ClusterIP.
    Internal,
    /// To any other address.
    External,
}

fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use modes::{Cleaning, IptablesRules};

    use super::*;

    fn assert_has(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.page(None).text;
        for line in lines {
            assert!(text.lines().any(|other| other == *line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn what_happened_stands_on_the_page() {
        let metrics = Metrics::new(Traffic::default(), &Arc::default(), &Arc::default());
        metrics.synced(Extent::Partial, &Report::default(), Duration::from_micros(70));
        metrics.repaired();
        metrics.bad_object(Kind::Service);
        metrics.watch_failed(Kind::EndpointSlice, "silent");
        metrics.requests.answered("GET", "api:6443", None, Duration::ZERO);
        metrics.probed(Probe::Livez, 503);
        assert_has(
            &metrics,
            &[
                r#"pointsman_sync_duration_seconds_count{sync="partial"} 1"#,
                "pointsman_repairs_total 1",
                r#"pointsman_api_bad_objects_total{kind="Service"} 1"#,
                r#"pointsman_api_watch_failures_total{kind="EndpointSlice",reason="silent"} 1"#,
                r#"pointsman_api_watching{kind="EndpointSlice"} 0"#,
                "pointsman_service_ports_left_out 0",
                r#"rest_client_requests_total{code="<error>",host="api:6443",method="GET"} 1"#,
                r#"kubeproxy_proxy_livez_total{code="503"} 1"#,
            ],
        );
    }

    #[test]
    fn a_sync_counts_in_each_family_that_is_programmed() {
        let metrics = Metrics::new(Traffic::default(), &Arc::default(), &Arc::default());
        metrics.serves("iptables", vec![Family::V4, Family::V6]);
        let family = Family::V6;
        let report = Report {
            cleanings: vec![Cleaning { family, removed: 3, duration: Duration::from_millis(5) }],
            iptables_rules: vec![IptablesRules { family, table: "nat", total: 17, written: 4 }],
            ..Report::default()
        };
        metrics.synced(Extent::Full, &report, Duration::from_millis(2));
        metrics.sync_failed(Extent::Partial, true, Duration::from_millis(2));
        assert_has(
            &metrics,
            &[
                r#"kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{le="0.002",ip_family="IPv4"} 1"#,
                r#"kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{le="0.001",ip_family="IPv6"} 0"#,
                r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
                r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2"#,
                r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 0"#,
                r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 3"#,
                r#"kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv6",table="nat"} 17"#,
                r#"kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="nat"} 4"#,
                r#"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 1"#,
                r#"kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1"#,
            ],
        );
    }

    #[test]
    fn a_mode_tells_what_kube_proxy_tells_in_it() {
        let names = |mode| {
            let metrics = Metrics::new(Traffic::default(), &Arc::default(), &Arc::default());
            metrics.serves(mode, vec![Family::V4]);
            metrics.page(None).text
        };
        for (mode, iptables, nftables, rules, full) in [
            ("nftables", false, true, false, true),
            ("iptables", true, false, true, true),
            ("ipvs", true, false, false, false),
            ("userspace", false, false, false, false),
        ] {
            let has = |name: &str| names(mode).contains(&format!("# TYPE kubeproxy_sync_{name} "));
            assert_eq!(has("proxy_rules_iptables_restore_failures_total"), iptables, "{mode}");
            assert_eq!(has("proxy_rules_nftables_sync_failures_total"), nftables, "{mode}");
            assert_eq!(has("full_proxy_rules_duration_seconds"), full, "{mode}");
            assert_eq!(has("proxy_rules_iptables_partial_restore_failures_total"), rules, "{mode}");
        }
    }
}
