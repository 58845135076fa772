//! kube-proxy's metrics, with its names, labels, types and buckets (`pkg/proxy/metrics/metrics.go`).
//!
//! kube-proxy syncs each address family by itself; a sync of ours does both. So it counts once in each family that is
//! programmed, with the time that both took.

use std::time::Duration;

use endpoint_cache::{Family as IpFamily, Tally};
use modes::Report;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::{Metric, Registry};

use super::{Extent, Labels, Origin, Probe, Seconds, now};

/// From a millisecond to 16 s.
#[derive(Clone, Debug)]
struct Syncs;

impl MetricConstructor<Histogram> for Syncs {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 15))
    }
}

/// From nothing to five minutes.
#[derive(Clone, Debug)]
struct Programming;

impl MetricConstructor<Histogram> for Programming {
    fn new_metric(&self) -> Histogram {
        let by_the_quarter = std::iter::once(0.0).chain(linear_buckets(0.25, 0.25, 2));
        let by_the_second = by_the_quarter.chain(linear_buckets(1.0, 1.0, 59));
        let by_five = by_the_second.chain(linear_buckets(60.0, 5.0, 12));
        Histogram::new(by_five.chain(linear_buckets(120.0, 30.0, 7)))
    }
}

/// What is kube-proxy's to tell, and the registries that print it.
#[derive(Debug)]
pub(super) struct KubeProxy {
    /// What is told in every mode.
    pub(super) registry: Registry,
    /// What only some modes tell, by name.
    of_modes: [(&'static str, Registry); 3],
    syncs: Family<Labels, Histogram, Syncs>,
    full_syncs: Family<Labels, Histogram, Syncs>,
    partial_syncs: Family<Labels, Histogram, Syncs>,
    last_sync: Family<Labels, Seconds>,
    last_queued: Family<Labels, Seconds>,
    programming: Family<Labels, Histogram, Programming>,
    slices_pending: Gauge,
    slices: Counter,
    services_pending: Gauge,
    services: Counter,
    no_local_endpoints: Family<Labels, Gauge>,
    healthz: Family<Vec<(&'static str, String)>, Counter>,
    livez: Family<Vec<(&'static str, String)>, Counter>,
    cleanings: Family<Labels, Histogram, Syncs>,
    flows_removed: Family<Labels, Counter>,
    iptables_failures: Family<Labels, Counter>,
    iptables_partial_failures: Family<Labels, Counter>,
    iptables_rules: Family<Labels, Gauge>,
    iptables_written: Family<Labels, Gauge>,
    nftables_failures: Family<Labels, Counter>,
    nftables_cleanup_failures: Family<Labels, Counter>,
}

impl KubeProxy {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        let registry = || Registry::with_prefix("kubeproxy");
        let mut metrics = Self {
            registry: registry(),
            of_modes: ["iptables", "ipvs", "nftables"].map(|mode| (mode, registry())),
            syncs: Family::new_with_constructor(Syncs),
            full_syncs: Family::new_with_constructor(Syncs),
            partial_syncs: Family::new_with_constructor(Syncs),
            last_sync: Family::default(),
            last_queued: Family::default(),
            programming: Family::new_with_constructor(Programming),
            slices_pending: Gauge::default(),
            slices: Counter::default(),
            services_pending: Gauge::default(),
            services: Counter::default(),
            no_local_endpoints: Family::default(),
            healthz: Family::default(),
            livez: Family::default(),
            cleanings: Family::new_with_constructor(Syncs),
            flows_removed: Family::default(),
            iptables_failures: Family::default(),
            iptables_partial_failures: Family::default(),
            iptables_rules: Family::default(),
            iptables_written: Family::default(),
            nftables_failures: Family::default(),
            nftables_cleanup_failures: Family::default(),
        };
        metrics.register();
        metrics.register_changes();
        metrics.register_of_modes();
        metrics
    }

    /// What has been programmed, and when.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let name = "sync_proxy_rules_duration_seconds";
        registry.register(name, "SyncProxyRules latency in seconds", self.syncs.clone());
        let name = "sync_proxy_rules_last_timestamp_seconds";
        registry.register(name, "The last time proxy rules were successfully synced", self.last_sync.clone());
        let name = "sync_proxy_rules_last_queued_timestamp_seconds";
        registry.register(name, "The last time a sync of proxy rules was queued", self.last_queued.clone());
        let name = "network_programming_duration_seconds";
        registry.register(
            name,
            "In Cluster Network Programming Latency in seconds",
            self.programming.clone(),
        );
        let help = "Cumulative proxy healthz HTTP status";
        registry.register("proxy_healthz", help, self.healthz.clone());
        let help = "Cumulative proxy livez HTTP status";
        registry.register("proxy_livez", help, self.livez.clone());
        let name = "conntrack_reconciler_sync_duration_seconds";
        let help = "ReconcileConntrackFlowsLatency latency in seconds";
        registry.register(name, help, self.cleanings.clone());
        let help = "Cumulative conntrack flows deleted by conntrack reconciler";
        registry.register("conntrack_reconciler_deleted_entries", help, self.flows_removed.clone());
    }

    /// What is to be programmed.
    fn register_changes(&mut self) {
        let registry = &mut self.registry;
        let name = "sync_proxy_rules_endpoint_changes_pending";
        registry.register(name, "Pending proxy rules Endpoint changes", self.slices_pending.clone());
        let name = "sync_proxy_rules_endpoint_changes";
        registry.register(name, "Cumulative proxy rules Endpoint changes", self.slices.clone());
        let name = "sync_proxy_rules_service_changes_pending";
        registry.register(name, "Pending proxy rules Service changes", self.services_pending.clone());
        let name = "sync_proxy_rules_service_changes";
        registry.register(name, "Cumulative proxy rules Service changes", self.services.clone());
        // A gauge, for all its name.
        let name = "sync_proxy_rules_no_local_endpoints_total";
        let help = "Number of services with a Local traffic policy and no endpoints";
        registry.register(name, help, self.no_local_endpoints.clone());
    }

    fn register_of_modes(&mut self) {
        let full =
            ("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs");
        let partial = (
            "sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
        );
        for mode in ["iptables", "nftables"] {
            self.register_of(mode, full, self.full_syncs.clone());
            self.register_of(mode, partial, self.partial_syncs.clone());
        }
        let name = "sync_proxy_rules_iptables_restore_failures";
        let failures = (name, "Cumulative proxy iptables restore failures");
        for mode in ["iptables", "ipvs"] {
            self.register_of(mode, failures, self.iptables_failures.clone());
        }
        let name = "sync_proxy_rules_iptables_partial_restore_failures";
        let failures = (name, "Cumulative proxy iptables partial restore failures");
        self.register_of("iptables", failures, self.iptables_partial_failures.clone());
        // Gauges, for all their names.
        let total = ("sync_proxy_rules_iptables_total", "Total number of iptables rules owned by kube-proxy");
        self.register_of("iptables", total, self.iptables_rules.clone());
        let name = "sync_proxy_rules_iptables_last";
        let last = (name, "Number of iptables rules written by kube-proxy in last sync");
        self.register_of("iptables", last, self.iptables_written.clone());
        let name = "sync_proxy_rules_nftables_sync_failures";
        let failures = (name, "Cumulative proxy nftables sync failures");
        self.register_of("nftables", failures, self.nftables_failures.clone());
        let name = "sync_proxy_rules_nftables_cleanup_failures";
        let failures = (name, "Cumulative proxy nftables cleanup failures");
        self.register_of("nftables", failures, self.nftables_cleanup_failures.clone());
    }

    fn register_of(&mut self, mode: &str, (name, help): (&'static str, &'static str), metric: impl Metric) {
        if let Some((_, registry)) = self.of_modes.iter_mut().find(|(of, _)| *of == mode) {
            registry.register(name, help, metric);
        }
    }

    /// What only this mode tells.
    pub(super) fn of_mode(&self, mode: &str) -> Option<&Registry> {
        self.of_modes.iter().find(|(of, _)| *of == mode).map(|(_, registry)| registry)
    }

    /// Has everything start from 0 in these families, so that the first failure is a rise.
    pub(super) fn begin(&self, families: &[IpFamily]) {
        for family in families {
            let of = of(*family);
            for histogram in [&self.syncs, &self.full_syncs, &self.partial_syncs, &self.cleanings] {
                drop(histogram.get_or_create(&of));
            }
            drop(self.programming.get_or_create(&of));
            let counters = [
                &self.flows_removed,
                &self.iptables_failures,
                &self.iptables_partial_failures,
                &self.nftables_failures,
                &self.nftables_cleanup_failures,
            ];
            counters.into_iter().for_each(|counter| drop(counter.get_or_create(&of)));
            for origin in [Origin::Internal, Origin::External] {
                self.without_local_endpoints(*family, origin, 0);
            }
        }
    }

    pub(super) fn queued(&self, families: &[IpFamily]) {
        for family in families {
            self.last_queued.get_or_create(&of(*family)).set(now());
        }
    }

    pub(super) fn given(&self, before: &Tally, now: &Tally) {
        self.services.inc_by(now.services.given - before.services.given);
        self.slices.inc_by(now.slices.given - before.slices.given);
    }

    pub(super) fn pending(&self, in_force: &Tally, now: &Tally) {
        let pending = |in_force: u64, now: u64| i64::try_from(now - in_force).unwrap_or(i64::MAX);
        self.services_pending.set(pending(in_force.services.changed, now.services.changed));
        self.slices_pending.set(pending(in_force.slices.changed, now.slices.changed));
    }

    pub(super) fn synced(&self, families: &[IpFamily], extent: Extent, report: &Report, took: Duration) {
        self.took(families, extent, took);
        for cleaning in &report.cleanings {
            let of = of(cleaning.family);
            self.cleanings.get_or_create(&of).observe(cleaning.duration.as_secs_f64());
            self.flows_removed.get_or_create(&of).inc_by(count(cleaning.removed));
        }
        for rules in &report.iptables_rules {
            let of = [of(rules.family), vec![("table", rules.table)]].concat();
            let gauge = |rules: usize| i64::try_from(rules).unwrap_or(i64::MAX);
            self.iptables_rules.get_or_create(&of).set(gauge(rules.total));
            self.iptables_written.get_or_create(&of).set(gauge(rules.written));
        }
    }

    pub(super) fn in_force(&self, families: &[IpFamily]) {
        for family in families {
            self.last_sync.get_or_create(&of(*family)).set(now());
        }
    }

    /// A sync took so long, whether it succeeded or not: kube-proxy does not tell these apart here.
    fn took(&self, families: &[IpFamily], extent: Extent, took: Duration) {
        let of_extent = match extent {
            Extent::Full => &self.full_syncs,
            Extent::Partial => &self.partial_syncs,
        };
        for family in families {
            self.syncs.get_or_create(&of(*family)).observe(took.as_secs_f64());
            of_extent.get_or_create(&of(*family)).observe(took.as_secs_f64());
        }
    }

    pub(super) fn sync_failed(
        &self,
        families: &[IpFamily],
        extent: Extent,
        of_iptables: bool,
        took: Duration,
    ) {
        self.took(families, extent, took);
        for family in families {
            let of = of(*family);
            self.nftables_failures.get_or_create(&of).inc();
            if of_iptables {
                self.iptables_failures.get_or_create(&of).inc();
            }
            if of_iptables && extent == Extent::Partial {
                self.iptables_partial_failures.get_or_create(&of).inc();
            }
        }
    }

    pub(super) fn tidying_failed(&self, families: &[IpFamily]) {
        for family in families {
            self.nftables_cleanup_failures.get_or_create(&of(*family)).inc();
        }
    }

    pub(super) fn programmed(&self, family: IpFamily, latency: Duration) {
        self.programming.get_or_create(&of(family)).observe(latency.as_secs_f64());
    }

    pub(super) fn without_local_endpoints(&self, family: IpFamily, traffic: Origin, more: i64) {
        let policy = match traffic {
            Origin::Internal => "internal",
            Origin::External => "external",
        };
        let of = [of(family), vec![("traffic_policy", policy)]].concat();
        self.no_local_endpoints.get_or_create(&of).inc_by(more);
    }

    pub(super) fn probed(&self, probe: Probe, code: u16) {
        let probes = match probe {
            Probe::Healthz => &self.healthz,
            Probe::Livez => &self.livez,
        };
        probes.get_or_create(&vec![("code", code.to_string())]).inc();
    }
}

/// The label that kube-proxy tells families apart by.
fn of(family: IpFamily) -> Labels {
    let name = match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    };
    vec![("ip_family", name)]
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
