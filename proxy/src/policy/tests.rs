//! The loop against an enforcer that only records what it is told, on a clock of the test's own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::thread;
use std::time::Instant;

use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use policy::object::{NetworkPolicy, Pod};
use policy::{Counts, Delta, Enforcer, Error, Program, Report, Watch};

use super::*;
use crate::event_loop::EventLoop;
use crate::source::Event;
use crate::telemetry::Known;

/// What the enforcer was told, and what it is to answer.
#[derive(Debug, Default)]
struct Record {
    calls: Vec<String>,
    failures: usize,
    due: Option<Instant>,
    /// Whether it hears of what others change.
    hears: bool,
    /// Whether an earlier process left rules.
    in_force: bool,
    /// Where each call is told.
    told: Option<Sender<String>>,
}

struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn record(&self, call: String) -> Result<Report, Error> {
        let mut record = self.0.lock().unwrap();
        if let Some(told) = &record.told {
            told.send(call.clone()).unwrap();
        }
        record.calls.push(call);
        if record.failures > 0 {
            record.failures -= 1;
            return Err(Error::NotSynced);
        }
        Ok(Report { operations: 1, judged_anew: false })
    }
}

impl Enforcer for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn is_in_force(&mut self) -> Result<bool, Error> {
        Ok(self.0.lock().unwrap().in_force)
    }

    fn resync(&mut self, program: &Program) -> Result<Report, Error> {
        if !program.ranges.is_empty() && program.pods.is_empty() {
            return self.record("close".to_owned());
        }
        self.record(format!("resync {}", program.subjects.len()))
    }

    fn apply(&mut self, program: &Program, delta: &Delta) -> Result<Report, Error> {
        self.record(format!("apply {} of {}", delta.subjects.len(), program.subjects.len()))
    }

    fn due(&self) -> Option<Instant> {
        self.0.lock().unwrap().due
    }

    fn tidy(&mut self, _now: Instant) -> Result<Report, Error> {
        self.0.lock().unwrap().due = None;
        self.record("tidy".to_owned())
    }

    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, Error> {
        self.record("watch".to_owned())?;
        let hears = self.0.lock().unwrap().hears;
        Ok(hears.then(|| Box::new(OneDamage(false)) as Box<dyn Watch>))
    }

    fn counts(&mut self) -> Result<Counts, Error> {
        self.0.lock().unwrap().calls.push("counts".to_owned());
        Ok(Counts { unknown: 3, ..Counts::default() })
    }
}

/// Somebody changes something once.
struct OneDamage(bool);

impl Watch for OneDamage {
    fn next_damage(&mut self) -> Result<String, Error> {
        if std::mem::replace(&mut self.0, true) {
            loop {
                thread::park();
            }
        }
        Ok("nft (process 7) changed table inet pointsman-policy".to_owned())
    }
}

struct Bench {
    policy_loop: PolicyLoop,
    record: Arc<Mutex<Record>>,
    telemetry: Arc<Telemetry>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let record: Arc<Mutex<Record>> = Arc::default();
        let telemetry = Telemetry::new(Duration::from_secs(60));
        let enforcer = Box::new(Recorder(Arc::clone(&record)));
        let policy_loop = PolicyLoop::new(Compiler::new("node"), enforcer, Arc::clone(&telemetry));
        Self { policy_loop, record, telemetry, now: Instant::now() }
    }

    /// One whose first sync is done.
    fn synced() -> Self {
        let mut bench = Self::new();
        bench.policy_loop.take(Event::Synced, bench.now);
        bench.turn();
        assert_eq!(bench.calls(), ["resync 0"]);
        bench.turn();
        assert_eq!(bench.calls(), ["counts"]);
        bench
    }

    fn take(&mut self, updates: impl IntoIterator<Item = Update>) {
        self.policy_loop.take(Event::Updates(updates.into_iter().collect()), self.now);
    }

    fn turn(&mut self) -> Option<Duration> {
        self.policy_loop.turn(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What the enforcer was told since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.record.lock().unwrap().calls)
    }

    fn answers_well(&self) -> bool {
        self.telemetry.health.is_programming(self.now + Duration::from_secs(61))
    }
}

fn pod(name: &str, address: &str) -> Update {
    let mut pod = Pod::default();
    pod.metadata.name = name.to_owned();
    pod.spec.node_name = "node".to_owned();
    pod.status.pod_ip = address.to_owned();
    Update::Pod(pod)
}

/// Isolates every pod's ingress.
fn deny_all(name: &str) -> Update {
    let mut policy = NetworkPolicy::default();
    policy.metadata.name = name.to_owned();
    Update::NetworkPolicy(policy)
}

fn gone(kind: Kind, name: &str) -> Update {
    Update::Deleted(ObjectRef { kind, name: ObjectName::new("default", name) })
}

#[test]
fn nothing_is_programmed_before_everything_is_known() {
    let mut bench = Bench::new();
    bench.take([deny_all("deny"), pod("a", "10.0.0.1")]);
    assert_eq!(bench.turn(), None);
    bench.policy_loop.damaged("somebody".to_owned(), bench.now);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.calls(), [""; 0]);
    bench.policy_loop.take(Event::Synced, bench.now);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1"]);
    assert!(bench.answers_well());
}

#[test]
fn changes_are_programmed_at_once_and_only_if_there_are_any() {
    let mut bench = Bench::synced();
    bench.take([deny_all("deny"), pod("a", "10.0.0.1")]);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1 of 1"]);
    assert!(bench.answers_well());
    // A pod that comes again as it was, and one on another node.
    let mut elsewhere = Pod::default();
    elsewhere.metadata.name = "b".to_owned();
    bench.take([pod("a", "10.0.0.1"), Update::Pod(elsewhere)]);
    bench.turn();
    assert_eq!(bench.calls(), [""; 0]);
    assert!(bench.answers_well());
    bench.take([gone(Kind::NetworkPolicy, "deny")]);
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1 of 0"]);
}

#[test]
fn a_failure_is_followed_by_a_resync_with_backoff() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().failures = 2;
    bench.take([deny_all("deny"), pod("a", "10.0.0.1")]);
    let first = bench.turn().expect("another attempt");
    assert_eq!(bench.calls(), ["apply 1 of 1"]);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), [""; 0], "not before its time");
    bench.pass(first);
    let second = bench.turn().expect("another attempt");
    assert!(second > first, "{second:?}");
    assert_eq!(bench.calls(), ["resync 1"]);
    bench.pass(second);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1"]);
    assert!(bench.answers_well());
}

#[test]
fn damage_is_repaired_at_once_but_not_over_and_over() {
    let mut bench = Bench::synced();
    let damage = |bench: &mut Bench| bench.policy_loop.damaged("nft changed it".to_owned(), bench.now);
    damage(&mut bench);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
    let drift = bench.telemetry.policies.drift.get();
    assert_eq!((drift.count, &*drift.last[0].cause), (1, "nft changed it"));
    damage(&mut bench);
    damage(&mut bench);
    let wait = bench.turn().expect("a repair later on");
    assert!(wait > Duration::from_millis(100), "{wait:?}");
    assert_eq!(bench.calls(), [""; 0]);
    bench.pass(wait);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
    assert_eq!(bench.telemetry.policies.drift.get().count, 2);
}

#[test]
fn what_drains_is_ended_when_it_is_due() {
    let mut bench = Bench::synced();
    let drain = Duration::from_secs(3);
    bench.record.lock().unwrap().due = Some(bench.now + drain);
    assert_eq!(bench.turn(), Some(drain));
    bench.pass(drain);
    bench.turn();
    assert_eq!(bench.calls(), ["tidy"]);
}

#[test]
fn what_is_wrong_with_a_policy_is_counted_and_kept_in_mind() {
    let mut bench = Bench::synced();
    bench.telemetry.policies.are_enforced(Enforced { by: "recorder", audit: false });
    let mut bad = NetworkPolicy::default();
    bad.metadata.name = "bad".to_owned();
    bad.spec.policy_types = vec!["Sideways".to_owned()];
    bench.take([Update::NetworkPolicy(bad), pod("a", "10.0.0.1")]);
    bench.turn();
    let known = |bench: &Bench| bench.telemetry.policies.now().expect("it is enforced").1;
    assert_eq!((known(&bench).policies, known(&bench).problems), (1, 1));
    assert_eq!((known(&bench).pods, known(&bench).local), (1, 1));
    bench.take([gone(Kind::NetworkPolicy, "bad"), gone(Kind::Pod, "a")]);
    bench.turn();
    assert_eq!(known(&bench), Known::default());
}

#[test]
fn a_thread_runs_until_it_is_told_to_stop_and_hears_of_damage() {
    let Bench { mut policy_loop, record, telemetry, .. } = Bench::new();
    let (told, calls) = std::sync::mpsc::channel();
    *record.lock().unwrap() = Record { hears: true, told: Some(told), ..Record::default() };
    let (inbox, inputs) = channel();
    let outside = inbox.clone();
    let running = thread::spawn(move || event_loop::run(&mut policy_loop, inbox, &inputs));
    assert!(outside.put(Input::Event(Event::Synced)));
    for call in ["resync 0", "watch", "resync 0", "resync 0"] {
        assert_eq!(calls.recv_timeout(Duration::from_secs(20)).as_deref(), Ok(call));
    }
    outside.stop();
    running.join().unwrap().unwrap();
    assert!(telemetry.policies.drift.get().last.iter().any(|repair| repair.cause.contains("process 7")));
}

#[test]
fn a_source_that_fails_ends_the_loop() {
    let (inbox, inputs) = channel();
    inbox.fail(anyhow::anyhow!("gone"));
    let error = event_loop::run(&mut Bench::new().policy_loop, inbox, &inputs).unwrap_err();
    assert_eq!(error.to_string(), "gone");
}

#[test]
fn without_news_from_the_kernel_all_is_compared_now_and_then() {
    let mut bench = Bench::synced();
    bench.policy_loop.watch(channel().0);
    assert_eq!(bench.calls(), ["watch"]);
    bench.now = Instant::now();
    let checkup = Duration::from_secs(31);
    bench.pass(checkup);
    let next = bench.turn().expect("something to come");
    assert_eq!(bench.calls(), ["resync 0"]);
    assert!(next <= checkup);
    assert_eq!(bench.telemetry.policies.drift.get().count, 1, "an operation that no change explains");
}

#[test]
fn a_mark_that_somebody_else_uses_is_refused() {
    let options = |args: &[&str]| {
        let args = std::iter::once("pointsman").chain(args.iter().copied()).map(std::ffi::OsString::from);
        crate::config::load(&Cli::read(args).unwrap()).unwrap().options
    };
    let usual = options(&[]);
    assert!(check_mark(policy::MARK_MASK, &usual).is_ok());
    let error = check_mark(0xf000, &usual).unwrap_err().to_string();
    assert!(error.contains("0x4000") && error.contains("--iptables-masquerade-bit"), "{error}");
    assert!(check_mark(0x3c00, &usual).is_ok());
    let error = check_mark(0x3c00, &options(&["--proxy-mode=userspace"])).unwrap_err().to_string();
    assert!(error.contains("userspace"), "{error}");
}

fn own_node() -> Update {
    Update::Node(endpoint_cache::object::Node {
        metadata: endpoint_cache::object::Metadata { name: "node".to_owned(), ..Default::default() },
        spec: endpoint_cache::object::NodeSpec {
            pod_cidrs: vec!["10.1.0.0/24".to_owned()],
            ..Default::default()
        },
        ..Default::default()
    })
}

/// A node that has just started has pods, and no rules of an earlier process.
#[test]
fn pods_are_closed_until_they_are_known_if_nothing_is_in_force() {
    let mut bench = Bench::new();
    bench.policy_loop = bench.policy_loop.with_settings(&Settings::default());
    bench.take([own_node()]);
    bench.turn();
    bench.turn();
    assert_eq!(bench.calls(), ["close"]);
}

#[test]
fn what_an_earlier_process_left_is_in_force_until_all_is_known() {
    for settings in [
        Settings::default(),
        Settings { unknown_pods: policy::UnknownPods::Allow, ..Settings::default() },
        Settings { audit: true, ..Settings::default() },
    ] {
        let mut bench = Bench::new();
        bench.record.lock().unwrap().in_force = settings == Settings::default();
        bench.policy_loop = bench.policy_loop.with_settings(&settings);
        bench.take([own_node()]);
        bench.turn();
        assert_eq!(bench.calls(), [""; 0]);
    }
}

/// A new pod that waits until it is let in.
fn claim(bench: &mut Bench, pod: &str, address: &str) -> (Receiver<()>, Arc<AtomicBool>) {
    let (in_force, let_in) = sync_channel(1);
    let is_known = Arc::new(AtomicBool::default());
    let claim = waiting::Claim {
        newcomer: Newcomer {
            pod: ObjectName::new("default", pod),
            uid: None,
            addresses: vec![address.parse().unwrap()],
        },
        until: bench.now + Duration::from_secs(5),
        is_known: Arc::clone(&is_known),
        in_force,
    };
    assert!(bench.policy_loop.hear(Message::Claimed(claim), bench.now).is_continue());
    (let_in, is_known)
}

#[test]
fn a_new_pod_is_let_in_when_its_policies_are_in_force() {
    let mut bench = Bench::synced();
    bench.take([deny_all("deny")]);
    bench.turn();
    bench.calls();
    let (let_in, is_known) = claim(&mut bench, "a", "10.0.0.1");
    bench.turn();
    assert!(let_in.try_recv().is_err() && !is_known.load(Ordering::Relaxed), "nobody knows it yet");
    bench.record.lock().unwrap().failures = 1;
    bench.take([pod("a", "")]);
    let wait = bench.turn().unwrap();
    assert_eq!(bench.calls(), ["apply 1 of 1"]);
    assert!(let_in.try_recv().is_err() && is_known.load(Ordering::Relaxed), "the kernel refused");
    bench.pass(wait);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1"]);
    assert_eq!(let_in.try_recv(), Ok(()));
    // The API server says it at last, and another pod comes that it has told of already.
    bench.take([pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1 of 2"]);
    let (let_in, _) = claim(&mut bench, "b", "10.0.0.2");
    bench.turn();
    assert_eq!((bench.calls(), let_in.try_recv()), (vec![], Ok(())));
}

#[test]
fn a_new_pod_waits_until_all_is_known_and_not_for_ever() {
    let mut bench = Bench::new();
    let (let_in, _) = claim(&mut bench, "a", "10.0.0.1");
    bench.take([deny_all("deny"), pod("a", "")]);
    bench.turn();
    assert!(let_in.try_recv().is_err());
    bench.policy_loop.take(Event::Synced, bench.now);
    bench.turn();
    assert_eq!((bench.calls(), let_in.try_recv()), (vec!["resync 1".to_owned()], Ok(())));
    let (let_in, _) = claim(&mut bench, "never", "10.0.0.9");
    bench.pass(Duration::from_secs(5));
    bench.turn();
    assert_eq!(let_in.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
}
