//! What there is to tell of policies: metrics, and how they stand for `pointsman status`.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use policy::{Compiler, Counts, Direction};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Drift, Extent};

pub(super) type Labels = Vec<(&'static str, &'static str)>;

/// Shared with the policy loop.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    enforced: OnceLock<Enforced>,
    state: Mutex<State>,
    sync_duration: SyncDuration,
    syncs: Family<Labels, Counter>,
    problems: Counter,
    /// What others changed.
    pub(crate) drift: Drift,
}

/// How policies are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enforced {
    /// The enforcer's name.
    pub(crate) by: &'static str,
    /// Whether nothing is denied.
    pub(crate) audit: bool,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    counts: Counts,
}

/// What the policy loop knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Policies.
    pub(crate) policies: usize,
    /// Those among them that isolate a pod here, counted for each direction.
    pub(crate) in_force: usize,
    /// Pods that policies know, on whichever node.
    pub(crate) pods: usize,
    /// Those of them that run here.
    pub(crate) local: usize,
    /// Addresses here that are isolated: ingress, egress.
    pub(crate) isolated: [usize; 2],
    /// What makes no sense in policies.
    pub(crate) problems: usize,
}

impl Known {
    /// What it has been told.
    pub(crate) fn of(compiler: &Compiler) -> Self {
        let program = compiler.program();
        let local: HashSet<_> = program.pods.values().collect();
        let isolated = |direction| program.subjects.keys().filter(|(other, _)| *other == direction).count();
        Self {
            policies: compiler.policies(),
            in_force: program.policies.len(),
            pods: compiler.pods(),
            local: local.len(),
            isolated: Direction::BOTH.map(isolated),
            problems: compiler.problems().count(),
        }
    }
}

/// From 62 us, a single element, to 2 s.
#[derive(Debug, Clone)]
pub(super) struct SyncDuration(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for SyncDuration {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_062_5, 2.0, 16))))
    }
}

impl SyncDuration {
    /// A sync of this extent took so long.
    pub(super) fn observe(&self, extent: Extent, duration: Duration) {
        let label = match extent {
            Extent::Full => "full",
            Extent::Partial => "partial",
        };
        self.0.get_or_create(&vec![("sync", label)]).observe(duration.as_secs_f64());
    }

    /// What a registry takes.
    pub(super) fn family(&self) -> Family<Labels, Histogram, fn() -> Histogram> {
        self.0.clone()
    }
}

impl Policies {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Policies are enforced from now on.
    pub(crate) fn are_enforced(&self, enforced: Enforced) {
        // A process has one enforcer at most.
        let _ = self.enforced.set(enforced);
    }

    /// How policies are enforced, if they are, and what is known.
    pub(crate) fn now(&self) -> Option<(Enforced, Known)> {
        self.enforced.get().map(|enforced| (*enforced, self.state().known))
    }

    /// A sync did what it should.
    pub(crate) fn synced(&self, extent: Extent, duration: Duration) {
        self.sync_duration.observe(extent, duration);
        self.syncs.get_or_create(&vec![("outcome", "success")]).inc();
    }

    /// A sync failed.
    pub(crate) fn failed(&self) {
        self.syncs.get_or_create(&vec![("outcome", "failure")]).inc();
    }

    /// Something in a policy makes no sense.
    pub(crate) fn had_a_problem(&self) {
        self.problems.inc();
    }

    /// What is known now.
    pub(crate) fn knows(&self, known: Known) {
        self.state().known = known;
    }

    /// What the kernel has counted by now.
    pub(crate) fn counted(&self, counts: Counts) {
        self.state().counts = counts;
    }

    /// The registry that prints it, for who has this.
    pub(super) fn registry(this: &Arc<Self>) -> Registry {
        let mut registry = Registry::with_prefix("pointsman_policy");
        let syncs = "Seconds that a sync of policies with the kernel took";
        registry.register("sync_duration_seconds", syncs, this.sync_duration.family());
        registry.register("syncs", "Syncs of policies with the kernel", this.syncs.clone());
        let problems = "Things in NetworkPolicies that made no sense";
        registry.register("problems", problems, this.problems.clone());
        registry.register_collector(Box::new(Page(Arc::clone(this))));
        registry
    }
}

/// What is read when somebody asks.
#[derive(Debug)]
struct Page(Arc<Policies>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.0.state();
        let mut writer = Writer(encoder);
        writer.known(&state.known)?;
        let repairs = "Times that others changed policies' rules and they were put right";
        writer.total("repairs", repairs, self.0.drift.get().count)?;
        writer.counts(&state.counts)
    }
}

/// Labels with their values, and a number.
pub(super) type Row<'a> = (Vec<(&'static str, &'a str)>, u64);

/// Writes numbers that stand elsewhere.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    fn known(&mut self, known: &Known) -> fmt::Result {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let policies = [("known", known.policies), ("in_force", known.in_force)];
        let rows: Vec<Row<'_>> = policies.map(|(are, n)| (vec![("are", are)], count(n))).into();
        self.gauge("policies", "NetworkPolicies, and those that isolate a pod of this node", &rows)?;
        let pods = [("cluster", known.pods), ("node", known.local)];
        let rows: Vec<Row<'_>> = pods.map(|(of, n)| (vec![("of", of)], count(n))).into();
        self.gauge("pods", "Pods that policies know", &rows)?;
        let isolated = Direction::BOTH.into_iter().zip(known.isolated);
        let rows: Vec<Row<'_>> =
            isolated.map(|(direction, n)| (vec![("direction", direction.as_str())], count(n))).collect();
        self.gauge("isolated_addresses", "Addresses of this node's pods that are isolated", &rows)
    }

    fn counts(&mut self, counts: &Counts) -> fmt::Result {
        let denied: Vec<(String, &policy::Profile, u64)> = counts
            .denied
            .iter()
            .map(|(profile, packets)| {
                let names: Vec<&str> = profile.policies.iter().map(|policy| &*policy.name).collect();
                (names.join(","), &**profile, *packets)
            })
            .collect();
        let rows: Vec<Row<'_>> = denied
            .iter()
            .map(|(names, profile, packets)| {
                let namespace = profile.policies.first().map_or("", |policy| &policy.namespace);
                (labels(namespace, names, profile.direction), *packets)
            })
            .collect();
        let help = "Packets that none of these policies allowed; in audit, that would have been denied";
        self.counter("denied_packets", help, &rows)?;
        let rows: Vec<Row<'_>> = counts
            .allowed
            .iter()
            .map(|(direction, name, connections)| {
                (labels(&name.namespace, &name.name, *direction), *connections)
            })
            .collect();
        self.counter("allowed_connections", "Connections that this policy allowed", &rows)?;
        let help = "Packets denied because their address is of no known pod";
        self.total("unknown_pod_packets", help, counts.unknown)
    }

    /// A gauge with a row for each of these labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, rows: &[Row<'_>]) -> fmt::Result {
        let value = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let mut encoder = self.0.encode_descriptor(name, help, None, value(0).metric_type())?;
        for (labels, number) in rows {
            value(*number).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// A gauge without labels.
    pub(super) fn value(&mut self, name: &str, help: &str, number: u64) -> fmt::Result {
        let gauge = ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    /// A counter without labels.
    pub(super) fn total(&mut self, name: &str, help: &str, number: u64) -> fmt::Result {
        let counter = ConstCounter::new(number);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, rows: &[Row<'_>]) -> fmt::Result {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, number) in rows {
            ConstCounter::new(*number).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn labels<'a>(namespace: &'a str, policy: &'a str, direction: Direction) -> Vec<(&'static str, &'a str)> {
    vec![("namespace", namespace), ("policy", policy), ("direction", direction.as_str())]
}

#[cfg(test)]
mod tests {
    use endpoint_cache::object::ObjectName;
    use policy::Profile;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_known_and_counted_stands_on_the_page() {
        let policies = Arc::new(Policies::default());
        let registry = Policies::registry(&policies);
        policies.synced(Extent::Partial, Duration::from_micros(70));
        policies.failed();
        policies.had_a_problem();
        policies.drift.repaired("somebody".to_owned(), 3);
        let known = Known { policies: 9, in_force: 4, pods: 30, local: 3, isolated: [2, 1], problems: 1 };
        policies.knows(known);
        let name = |name| ObjectName::new("shop", name);
        let profile = Profile { direction: Direction::Ingress, policies: vec![name("a"), name("b")] };
        policies.counted(Counts {
            allowed: vec![(Direction::Egress, name("a"), 5)],
            denied: vec![(Arc::new(profile), 7)],
            unknown: 2,
        });
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"pointsman_policy_sync_duration_seconds_count{sync="partial"} 1"#,
            r#"pointsman_policy_syncs_total{outcome="success"} 1"#,
            r#"pointsman_policy_syncs_total{outcome="failure"} 1"#,
            "pointsman_policy_problems_total 1",
            "pointsman_policy_repairs_total 1",
            r#"pointsman_policy_policies{are="known"} 9"#,
            r#"pointsman_policy_policies{are="in_force"} 4"#,
            r#"pointsman_policy_pods{of="cluster"} 30"#,
            r#"pointsman_policy_pods{of="node"} 3"#,
            r#"pointsman_policy_isolated_addresses{direction="ingress"} 2"#,
            r#"pointsman_policy_isolated_addresses{direction="egress"} 1"#,
            r#"pointsman_policy_denied_packets_total{namespace="shop",policy="a,b",direction="ingress"} 7"#,
            r#"pointsman_policy_allowed_connections_total{namespace="shop",policy="a",direction="egress"} 5"#,
            "pointsman_policy_unknown_pod_packets_total 2",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn nothing_is_told_of_policies_that_are_not_enforced() {
        let policies = Policies::default();
        assert_eq!(policies.now(), None);
        let enforced = Enforced { by: "nftables", audit: true };
        policies.are_enforced(enforced);
        assert_eq!(policies.now(), Some((enforced, Known::default())));
    }
}
