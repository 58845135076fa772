//! The loop against a mode that only records what it is told, on a clock of the test's own.

use std::sync::{Arc, Mutex};

use endpoint_cache::object::{Kind, Node, NodeAddress, ObjectName, ObjectRef, Service};
use endpoint_cache::{Desired, ServicePort, Update};

use super::*;
use crate::event_loop::channel;

/// What the mode was told, and how many of the next calls it is to fail.
#[derive(Debug, Default)]
struct Record {
    calls: Vec<String>,
    failures: usize,
    /// Names of Services that it refuses.
    refused: Vec<&'static str>,
    rehearsals: usize,
}

struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn record<'a>(
        &mut self,
        call: String,
        services: impl IntoIterator<Item = &'a Arc<ServicePort>>,
    ) -> Result<Report, Error> {
        let mut record = self.0.lock().unwrap();
        record.calls.push(call);
        record.check(services)?;
        if record.failures > 0 {
            record.failures -= 1;
            return Err(kernel::Error::AnswerLost { operation: "the test".to_owned() }.into());
        }
        Ok(Report { operations: 1, ..Report::default() })
    }
}

impl Record {
    /// As the kernel would: one bad service is enough to refuse all.
    fn check<'a>(&self, services: impl IntoIterator<Item = &'a Arc<ServicePort>>) -> Result<(), Error> {
        let is_refused =
            |service: &&Arc<ServicePort>| self.refused.iter().any(|name| &*service.name.name == *name);
        match services.into_iter().find(is_refused) {
            Some(service) => {
                let operation = format!("add {}", service.name);
                let errno = nix::errno::Errno::EINVAL;
                Err(kernel::Error::Refused { operation, errno, extended: None }.into())
            }
            None => Ok(()),
        }
    }
}

impl Mode for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        self.record(format!("resync {}", desired.service_ports.len()), &desired.service_ports)
    }

    fn rehearse(&mut self, desired: &Desired) -> Result<(), Error> {
        let mut record = self.0.lock().unwrap();
        record.rehearsals += 1;
        record.check(&desired.service_ports)
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, Error> {
        let after = delta.changes.iter().filter_map(|change| change.after.as_ref());
        self.record(format!("apply {}", delta.changes.len()), after)
    }

    fn tidy(&mut self) -> Result<Report, Error> {
        self.record("tidy".to_owned(), [])
    }

    fn watch(&mut self) -> Result<Box<dyn modes::Watch>, Error> {
        self.record("watch".to_owned(), [])?;
        Ok(Box::new(NoNews))
    }
}

/// Others leave everything as it is.
struct NoNews;

impl modes::Watch for NoNews {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        loop {
            std::thread::park();
        }
    }
}

struct Bench {
    sync_loop: SyncLoop,
    record: Arc<Mutex<Record>>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let record = Arc::default();
        let mode = Recorder(Arc::clone(&record));
        let telemetry = Telemetry::new(Duration::from_secs(60));
        let sync_loop = SyncLoop::new(Cache::new("node"), Box::new(mode), telemetry);
        Self { sync_loop, record, now: Instant::now() }
    }

    /// One whose first sync is done.
    fn synced() -> Self {
        let mut bench = Self::new();
        bench.take(Event::Synced);
        bench.turn();
        assert_eq!(bench.calls(), ["resync 0"]);
        bench
    }

    fn take(&mut self, event: Event<Update>) {
        self.sync_loop.take(event, self.now);
    }

    fn turn(&mut self) -> Option<Duration> {
        self.sync_loop.turn(self.now)
    }

    fn fail_next(&mut self, failures: usize) {
        self.record.lock().unwrap().failures = failures;
    }

    /// What the mode was told since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.record.lock().unwrap().calls)
    }
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn service(name: &str, cluster_ip: &str) -> Update {
    let mut service = Service::default();
    service.metadata.name = name.to_owned();
    service.spec.cluster_ip = cluster_ip.to_owned();
    service.spec.ports = vec![endpoint_cache::object::Port { port: 80, ..Default::default() }];
    Update::Service(service)
}

fn updates(updates: impl IntoIterator<Item = Update>) -> Event<Update> {
    Event::Updates(updates.into_iter().collect())
}

#[test]
fn nothing_is_programmed_before_everything_is_in() {
    let mut bench = Bench::new();
    bench.take(updates([service("a", "10.0.0.1")]));
    assert_eq!(bench.turn(), None);
    bench.now += Duration::from_secs(3600);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), [""; 0]);

    bench.take(updates([service("b", "10.0.0.2")]));
    bench.take(Event::Synced);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 2"]);
}

#[test]
fn what_piled_up_is_one_transaction() {
    let mut bench = Bench::synced();
    bench.take(updates([service("a", "10.0.0.1"), service("b", "10.0.0.2")]));
    bench.take(updates([service("c", "10.0.0.3")]));
    bench.take(updates([Update::Deleted(ObjectRef { kind: Kind::Service, name: name("a") })]));
    bench.turn();
    assert_eq!(bench.calls(), ["apply 2"]);
    assert_eq!(bench.sync_loop.serial, 2);
}

#[test]
fn a_batch_that_changes_nothing_counts_as_synced_without_the_kernel() {
    let mut bench = Bench::synced();
    bench.take(updates([service("a", "10.0.0.1")]));
    bench.turn();
    bench.calls();
    bench.take(updates([service("a", "10.0.0.1")]));
    bench.turn();
    bench.take(updates([]));
    bench.turn();
    assert_eq!(bench.calls(), [""; 0]);
    assert_eq!(bench.sync_loop.serial, 4);
}

#[test]
fn a_failure_is_followed_by_a_resync_no_sooner_than_the_backoff() {
    let mut bench = Bench::synced();
    bench.fail_next(2);
    bench.take(updates([service("a", "10.0.0.1")]));
    let wait = bench.turn().unwrap();
    assert_eq!(bench.calls(), ["apply 1"]);
    assert!(wait > Duration::from_millis(90) && wait < Duration::from_secs(1), "{wait:?}");

    // What arrives meanwhile is taken in, and waits.
    bench.take(updates([service("b", "10.0.0.2")]));
    assert!(bench.turn().is_some_and(|left| left <= wait));
    assert_eq!(bench.calls(), [""; 0]);

    bench.now += wait;
    let longer = bench.turn().unwrap();
    assert_eq!(bench.calls(), ["resync 2"]);
    assert!(longer > wait, "{longer:?}");

    bench.now += longer;
    bench.turn();
    assert_eq!(bench.calls(), ["resync 2"]);
    bench.take(updates([service("c", "10.0.0.3")]));
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1"]);
}

#[test]
fn after_a_success_the_backoff_starts_over() {
    let mut bench = Bench::synced();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        bench.fail_next(1);
        bench.take(updates([service("a", ip)]));
        let wait = bench.turn().unwrap();
        assert!(wait < Duration::from_millis(200), "{wait:?}");
        bench.now += wait;
        bench.turn();
    }
    assert_eq!(bench.calls(), ["apply 1", "resync 1", "apply 1", "resync 1"]);
}

#[test]
fn it_tidies_once_when_nothing_happens() {
    let mut bench = Bench::synced();
    let wait = bench.turn().unwrap();
    assert!(wait >= IDLE && wait < 2 * IDLE, "{wait:?}");
    bench.now += wait / 2;
    bench.take(updates([service("a", "10.0.0.1")]));
    bench.turn();
    bench.now += wait / 2;
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1"]);

    bench.now += 2 * IDLE;
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), ["tidy"]);
    bench.now += 2 * IDLE;
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), [""; 0]);
}

#[test]
fn a_failed_tidying_is_followed_by_a_resync() {
    let mut bench = Bench::synced();
    bench.now += 2 * IDLE;
    bench.fail_next(1);
    let wait = bench.turn().unwrap();
    bench.now += wait;
    bench.turn();
    assert_eq!(bench.calls(), ["tidy", "resync 0"]);
}

#[test]
fn it_runs_until_it_is_told_to_stop() {
    let (inbox, inputs) = channel();
    let bench = Bench::new();
    let record = Arc::clone(&bench.record);
    let listening = inbox.clone();
    let test = std::thread::spawn(move || {
        assert!(inbox.put(Input::Event(updates([service("a", "10.0.0.1")]))));
        assert!(inbox.put(Input::Event(Event::Synced)));
        while record.lock().unwrap().calls.len() < 2 {
            std::thread::yield_now();
        }
        inbox.stop();
    });
    bench.sync_loop.run(listening, &inputs).unwrap();
    test.join().unwrap();
    let calls = bench.record.lock().unwrap().calls.clone();
    assert_eq!(calls, ["resync 1", "watch"], "nobody listens before the first sync");
}

#[test]
fn a_source_that_gives_up_ends_it() {
    let (inbox, inputs) = channel();
    inbox.fail(anyhow::anyhow!("gone"));
    let error = Bench::new().sync_loop.run(inbox, &inputs).unwrap_err();
    assert_eq!(error.to_string(), "gone");
}

#[test]
fn what_others_change_is_repaired_at_once_but_not_without_pause() {
    let mut bench = Bench::synced();
    bench.sync_loop.disturbed(&damage(), bench.now);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);

    // Whoever does it again and again waits.
    bench.sync_loop.disturbed(&damage(), bench.now);
    assert_eq!(bench.turn(), Some(BETWEEN_REPAIRS));
    bench.sync_loop.disturbed(&damage(), bench.now);
    assert_eq!(bench.calls(), [""; 0]);
    bench.now += BETWEEN_REPAIRS;
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn disturbances_before_the_first_sync_change_nothing() {
    let mut bench = Bench::new();
    bench.sync_loop.disturbed(&damage(), bench.now);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), [""; 0]);
}

#[test]
fn changes_may_have_to_wait_until_so_long_after_the_last_sync() {
    const PERIOD: Duration = Duration::from_secs(10);
    let mut bench = Bench::new();
    bench.sync_loop = bench.sync_loop.with_min_sync_period(PERIOD);
    bench.take(updates([service("a", "10.0.0.1")]));
    bench.take(Event::Synced);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1"], "the first sync waits for nothing");

    bench.now += PERIOD / 2;
    bench.take(updates([service("b", "10.0.0.2")]));
    let wait = bench.turn().unwrap();
    assert!(wait >= PERIOD / 2 && wait < PERIOD, "{wait:?}");
    bench.take(updates([service("c", "10.0.0.3")]));
    assert_eq!((bench.turn(), bench.calls().len()), (Some(wait), 0));
    bench.now += wait;
    bench.turn();
    assert_eq!(bench.calls(), ["apply 2"], "they come together");

    // After that long, nothing has to wait.
    bench.now += 2 * PERIOD;
    bench.take(updates([service("d", "10.0.0.4")]));
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1"]);
}

#[test]
fn repairs_do_not_wait_for_the_period_and_take_changes_with_them() {
    let mut bench = Bench::synced();
    bench.sync_loop = bench.sync_loop.with_min_sync_period(Duration::from_secs(10));
    bench.take(updates([service("a", "10.0.0.1")]));
    bench.turn();
    assert_eq!(bench.calls(), [""; 0]);
    bench.sync_loop.disturbed(&damage(), bench.now);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1"]);
}

/// The page of metrics has these lines.
fn assert_told(bench: &Bench, lines: &[&str]) {
    let text = bench.sync_loop.telemetry.metrics.page(None).text;
    for line in lines {
        let line = format!("kubeproxy_{line}");
        assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
    }
}

#[test]
fn changes_are_pending_until_they_are_in_force() {
    let mut bench = Bench::synced();
    bench.fail_next(1);
    bench.take(updates([service("a", "10.0.0.1"), service("a", "10.0.0.1"), service("b", "10.0.0.2")]));
    let total = "sync_proxy_rules_service_changes_total 3";
    let pending = |number| format!("sync_proxy_rules_service_changes_pending {number}");
    assert_told(&bench, &[total, &pending(2)]);
    let wait = bench.turn().unwrap();
    assert_told(&bench, &[total, &pending(2)]);
    bench.now += wait;
    bench.turn();
    assert_told(&bench, &[total, &pending(0)]);
}

/// A slice for the Service `a`, with an endpoint elsewhere, written for what happened at this time.
fn triggered(address: &str, time: &str) -> Update {
    let slice = serde_json::json!({
        "metadata": {
            "name": "a-1", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "a"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": time},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": "elsewhere"}],
        "ports": [{"name": "", "port": 80}],
    });
    Update::EndpointSlice(serde_json::from_value(slice).unwrap())
}

#[test]
fn what_happened_since_the_start_is_timed_once_it_is_in_force() {
    let mut bench = Bench::synced();
    let (ago, soon) = ("2020-01-01T00:00:00Z".to_owned(), jiff::Timestamp::now().to_string());
    bench.take(updates([service("a", "10.0.0.1"), triggered("10.1.0.1", &ago)]));
    bench.take(updates([triggered("10.1.0.2", "yesterday")]));
    bench.turn();
    let count = |number| format!("network_programming_duration_seconds_count{{ip_family=\"IPv4\"}} {number}");
    assert_told(&bench, &[&count(0)]);

    bench.take(updates([triggered("10.1.0.3", &soon)]));
    bench.fail_next(1);
    let wait = bench.turn().unwrap();
    assert_told(&bench, &[&count(0)]);
    bench.now += wait;
    bench.turn();
    let quick = "network_programming_duration_seconds_bucket{le=\"60\",ip_family=\"IPv4\"} 1";
    assert_told(&bench, &[&count(1), quick]);
}

#[test]
fn service_ports_whose_policy_keeps_them_from_endpoints_elsewhere_are_counted() {
    let mut bench = Bench::synced();
    let local = |is_local| {
        let Update::Service(mut service) = service("a", "10.0.0.1") else { unreachable!() };
        service.spec.internal_traffic_policy = if is_local { "Local" } else { "Cluster" }.to_owned();
        Update::Service(service)
    };
    let count = |origin, number| {
        format!(
            "sync_proxy_rules_no_local_endpoints_total{{ip_family=\"IPv4\",traffic_policy=\"{origin}\"}} {number}"
        )
    };
    for (is_local, number) in [(true, 1), (false, 0), (true, 1)] {
        bench.take(updates([local(is_local), triggered("10.1.0.1", "")]));
        bench.turn();
        assert_told(&bench, &[&count("internal", number), &count("external", 0)]);
    }
    bench.take(updates([Update::Deleted(ObjectRef { kind: Kind::Service, name: name("a") })]));
    bench.turn();
    assert_told(&bench, &[&count("internal", 0)]);
}

/// Lets the loop fail until it finds out why.
fn let_it_find_out(bench: &mut Bench) {
    while let Some(wait) = bench.turn()
        && matches!(bench.sync_loop.phase, Phase::Resync { .. })
    {
        bench.now += wait;
    }
}

#[test]
fn one_service_that_the_kernel_refuses_does_not_keep_the_others_out() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().refused = vec!["bad"];
    let all = [("a", "10.0.0.1"), ("bad", "10.0.0.2"), ("c", "10.0.0.3")];
    bench.take(updates(all.map(|(name, ip)| service(name, ip))));
    let_it_find_out(&mut bench);
    assert_eq!(bench.calls(), ["apply 3", "resync 3", "resync 2"]);
    assert_eq!(bench.sync_loop.left_out.len(), 1);

    // The others go on by themselves.
    bench.take(updates([service("a", "10.0.0.4")]));
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1"]);

    // A change of it is another chance.
    bench.record.lock().unwrap().refused.clear();
    bench.take(updates([service("bad", "10.0.0.5")]));
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1"]);
    assert_eq!(bench.sync_loop.left_out.len(), 0);
}

#[test]
fn bad_services_are_found_among_very_many_from_the_start() {
    let mut bench = Bench::new();
    bench.record.lock().unwrap().refused = vec!["s7", "s1234", "s1235"];
    let many =
        (0..2_000_u32).map(|n| service(&format!("s{n}"), &format!("10.1.{}.{}", n / 250, 1 + n % 250)));
    bench.take(updates(many));
    bench.take(Event::Synced);
    let_it_find_out(&mut bench);
    assert_eq!(bench.calls(), ["resync 2000", "resync 2000", "resync 1997"]);
    let rehearsals = bench.record.lock().unwrap().rehearsals;
    assert!(rehearsals <= 64, "{rehearsals} rehearsals");
}

#[test]
fn a_service_that_is_deleted_is_not_left_out_any_longer() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().refused = vec!["bad"];
    bench.take(updates([service("bad", "10.0.0.2")]));
    let_it_find_out(&mut bench);
    bench.calls();
    bench.take(updates([Update::Deleted(ObjectRef { kind: Kind::Service, name: name("bad") })]));
    bench.turn();
    assert_eq!(bench.calls(), [""; 0], "nothing of it is in the kernel");
    assert_eq!(bench.sync_loop.left_out.len(), 0);
}

#[test]
fn what_is_nobodys_fault_leaves_nobody_out() {
    let mut bench = Bench::synced();
    bench.fail_next(3);
    bench.take(updates([service("a", "10.0.0.1")]));
    let_it_find_out(&mut bench);
    assert_eq!(bench.calls(), ["apply 1", "resync 1", "resync 1", "resync 1"]);
    assert_eq!((bench.sync_loop.left_out.len(), bench.record.lock().unwrap().rehearsals), (0, 0));
}

#[test]
fn news_from_others_ends_the_wait_after_failures() {
    let mut bench = Bench::synced();
    bench.fail_next(4);
    bench.take(updates([service("a", "10.0.0.1")]));
    for _ in 0..4 {
        let wait = bench.turn().unwrap();
        bench.now += wait / 2;
        bench.sync_loop.disturbed(&damage(), bench.now);
        bench.now += BETWEEN_REPAIRS;
    }
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1", "resync 1", "resync 1", "resync 1", "resync 1"]);
}

fn damage() -> Disturbance {
    Disturbance::Damage("somebody changed something".to_owned())
}

/// One that waits for the Node's addresses and pod ranges.
fn awaiting_node() -> Bench {
    let mut bench = Bench::new();
    let node_wait = NodeWait { node_name: "node".to_owned(), addresses: true, pod_cidrs: true };
    bench.sync_loop.node_wait = Some(node_wait);
    bench
}

fn node(address: Option<&str>, pod_cidr: &str) -> Event<Update> {
    let mut node = Node::default();
    node.metadata.name = "node".to_owned();
    node.spec.pod_cidr = pod_cidr.to_owned();
    let internal =
        |address: &str| NodeAddress { address_type: "InternalIP".to_owned(), address: address.to_owned() };
    node.status.addresses = address.map(internal).into_iter().collect();
    Event::Updates(vec![Update::Node(node)])
}

#[test]
fn the_first_sync_waits_for_what_it_needs_of_the_node() {
    let mut bench = awaiting_node();
    bench.take(Event::Synced);
    assert_eq!(bench.turn(), Some(Duration::from_secs(30)));
    bench.take(node(None, ""));
    assert_eq!(bench.turn(), Some(Duration::from_secs(30)));
    bench.now += Duration::from_secs(29);
    bench.take(node(Some("192.0.2.1"), ""));
    assert_eq!(bench.turn(), Some(Duration::from_secs(271)), "pod ranges may take longer");
    assert!(bench.calls().is_empty());
    bench.take(node(Some("192.0.2.1"), "10.1.0.0/24"));
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn a_node_that_was_there_before_is_not_waited_for() {
    let mut bench = awaiting_node();
    bench.take(node(Some("192.0.2.1"), "10.1.0.0/24"));
    bench.take(Event::Synced);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn a_node_that_does_not_come_is_gone_on_without() {
    let mut bench = awaiting_node();
    bench.take(Event::Synced);
    bench.turn();
    bench.now += Duration::from_secs(30);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn pod_ranges_are_waited_for_when_addresses_no_longer_are() {
    let mut bench = awaiting_node();
    bench.take(node(None, ""));
    bench.take(Event::Synced);
    assert_eq!(bench.turn(), Some(Duration::from_secs(30)));
    bench.now += Duration::from_secs(30);
    assert_eq!(bench.turn(), Some(Duration::from_secs(270)));
    assert!(bench.calls().is_empty());
    bench.now += Duration::from_secs(270);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn load_balancers_are_told_of_the_node_at_once_and_nothing_is_programmed() {
    let mut bench = Bench::synced();
    bench.take(node(Some("192.0.2.1"), ""));
    bench.turn();
    bench.calls();
    let Event::Updates(mut updates) = node(Some("192.0.2.1"), "") else { unreachable!() };
    let Some(Update::Node(tainted)) = updates.first_mut() else { unreachable!() };
    tainted.metadata.deletion_timestamp = Some("2026-01-02T03:04:05Z".to_owned());
    bench.take(Event::Updates(updates));
    let health = &bench.sync_loop.telemetry.health;
    assert!(!health.verdict(crate::telemetry::Probe::Healthz, bench.now).is_good());
    bench.turn();
    assert!(bench.calls().is_empty());
}

#[test]
fn who_asks_is_told_what_is_known_and_what_the_kernel_refuses() {
    let mut bench = Bench::new();
    bench.take(updates([service("a", "10.0.0.1"), service("b", "10.0.0.2")]));
    let ask = |bench: &Bench| {
        let (answer, mut heard) = tokio::sync::oneshot::channel();
        bench.sync_loop.answer(answer);
        heard.try_recv().unwrap().services
    };
    let names = |view: &[crate::view::ServiceView]| {
        view.iter().map(|service| (service.name.clone(), service.problems.len())).collect::<Vec<_>>()
    };
    assert_eq!(names(&ask(&bench)), [("a".to_owned(), 0), ("b".to_owned(), 0)], "before the first sync too");
    bench.take(Event::Synced);
    bench.record.lock().unwrap().refused = vec!["b"];
    for _ in 0..3 {
        bench.now += Duration::from_secs(60);
        bench.turn();
    }
    let told = ask(&bench);
    assert_eq!(names(&told), [("a".to_owned(), 0), ("b".to_owned(), 1)]);
    assert!(told[1].problems[0].starts_with("the kernel refuses port default/b (IPv4)"), "{told:?}");
}
