//! The loop against a mode that only records what it is told, on a clock of the test's own.

use std::sync::{Arc, Mutex};

use endpoint_cache::object::{Kind, ObjectName, ObjectRef, Service};
use endpoint_cache::{Desired, Update};

use super::*;

/// What the mode was told, and how many of the next calls it is to fail.
#[derive(Debug, Default)]
struct Record {
    calls: Vec<String>,
    failures: usize,
}

struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn record(&mut self, call: String) -> Result<Report, modes::Error> {
        let mut record = self.0.lock().unwrap();
        record.calls.push(call);
        if record.failures > 0 {
            record.failures -= 1;
            return Err(kernel::Error::AnswerLost { operation: "the test".to_owned() }.into());
        }
        Ok(Report { operations: 1, ..Report::default() })
    }
}

impl Mode for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, modes::Error> {
        self.record(format!("resync {}", desired.service_ports.len()))
    }

    fn apply(&mut self, delta: &Delta) -> Result<Report, modes::Error> {
        self.record(format!("apply {}", delta.changes.len()))
    }

    fn tidy(&mut self) -> Result<Report, modes::Error> {
        self.record("tidy".to_owned())
    }

    fn watch(&self) -> Result<Box<dyn modes::Watch>, modes::Error> {
        unreachable!("the loop is told of disturbances, it does not ask")
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

    fn take(&mut self, event: Event) {
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

fn updates(updates: impl IntoIterator<Item = Update>) -> Event {
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
    let test = std::thread::spawn(move || {
        assert!(inbox.put(Input::Event(updates([service("a", "10.0.0.1")]))));
        assert!(inbox.put(Input::Event(Event::Synced)));
        while record.lock().unwrap().calls.is_empty() {
            std::thread::yield_now();
        }
        assert!(inbox.put(Input::Stop));
    });
    assert!(matches!(bench.sync_loop.run(&inputs), Outcome::Stopped));
    test.join().unwrap();
    assert_eq!(bench.record.lock().unwrap().calls, ["resync 1"]);
}

#[test]
fn a_source_that_gives_up_ends_it() {
    let (inbox, inputs) = channel();
    inbox.put(Input::Failed(anyhow::anyhow!("gone")));
    let outcome = Bench::new().sync_loop.run(&inputs);
    assert!(matches!(outcome, Outcome::SourceFailed(error) if error.to_string() == "gone"));
}

#[test]
fn what_others_change_is_repaired_at_once_but_not_without_pause() {
    let mut bench = Bench::synced();
    bench.sync_loop.disturbed("somebody changed something", bench.now);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);

    // Whoever does it again and again waits.
    bench.sync_loop.disturbed("somebody changed something", bench.now);
    assert_eq!(bench.turn(), Some(BETWEEN_REPAIRS));
    bench.sync_loop.disturbed("somebody changed something", bench.now);
    assert_eq!(bench.calls(), [""; 0]);
    bench.now += BETWEEN_REPAIRS;
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
}

#[test]
fn disturbances_before_the_first_sync_change_nothing() {
    let mut bench = Bench::new();
    bench.sync_loop.disturbed("somebody changed something", bench.now);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), [""; 0]);
}
