//! The loop against a kernel that only records what it is told, on a clock of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use cni::network::{Delta, Desired, Error, News, Published, Report, Uplink, Way};
use endpoint_cache::object::{
    Kind, Metadata, Node, NodeAddress, NodeSpec, NodeStatus, ObjectName, ObjectRef,
};

use super::kernel::{Kernel, Watch};
use super::*;
use crate::event_loop::EventLoop;
use crate::source::Event;
use crate::telemetry::NetworkKnown;

/// What the kernel was told, and what it is to answer.
#[derive(Debug, Default)]
struct Record {
    calls: Vec<String>,
    failures: usize,
    operations: usize,
    refused: Vec<(IpNet, String)>,
    no_uplink: bool,
    learned: BTreeMap<IpNet, Way>,
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
        Ok(Report { operations: record.operations, refused: record.refused.clone() })
    }
}

impl Kernel for Recorder {
    fn uplinks(&mut self, node: &[IpAddr]) -> Result<BTreeMap<Family, Uplink>, Error> {
        let mut record = self.0.lock().unwrap();
        record.calls.push(format!("uplinks of {node:?}"));
        if record.no_uplink {
            return Err(Error::NoUplink("none has the address".to_owned()));
        }
        let uplink = Uplink {
            link: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            address: "192.0.2.1".parse().unwrap(),
            on_link: vec!["192.0.2.0/24".parse().unwrap()],
        };
        Ok([(Family::V4, uplink)].into())
    }

    fn learned(&mut self) -> Result<BTreeMap<IpNet, Way>, Error> {
        let mut record = self.0.lock().unwrap();
        record.calls.push("learned".to_owned());
        Ok(record.learned.clone())
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        self.record(format!("resync {}", desired.ways.len()))
    }

    fn apply(&mut self, delta: &Delta, desired: &Desired) -> Result<Report, Error> {
        self.record(format!("apply {} of {}", delta.ways.len(), desired.ways.len()))
    }

    fn watch(&mut self) -> Result<Vec<Watch>, Error> {
        self.record("watch".to_owned())?;
        let mut once = Some(News::Damage("ip (process 7) removed 10.244.2.0/24".to_owned()));
        Ok(vec![Box::new(move || match once.take() {
            Some(news) => Ok(news),
            None => loop {
                thread::park();
            },
        })])
    }
}

struct Bench {
    network_loop: NetworkLoop,
    record: Arc<Mutex<Record>>,
    telemetry: Arc<Telemetry>,
    folder: tempfile::TempDir,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(&["--pod-network=host-gw"])
    }

    fn with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name).display().to_string();
        let files = [
            format!("--pod-network-file={}", path("network.json")),
            format!("--pod-network-cni-config={}", path("10-a.conflist")),
        ];
        let args = ["pointsman"].iter().chain(args).map(|arg| (*arg).to_owned()).chain(files);
        let flags = Cli::read(args.map(Into::into)).unwrap().network;
        let settings = flags.settings(vec![Family::V4], &[]).unwrap();
        let record: Arc<Mutex<Record>> = Arc::default();
        let telemetry = Telemetry::new(Duration::from_secs(60));
        telemetry.network.is_joined(Joined { backend: "host-gw", data_path: "routed" });
        let network_loop = NetworkLoop::new(
            own("node-a", &settings, &flags),
            Nodes::new("node-a", settings),
            Box::new(Recorder(Arc::clone(&record))),
            Offer::of(&flags),
            Arc::clone(&telemetry),
        );
        Self { network_loop, record, telemetry, folder, now: Instant::now() }
    }

    /// One whose first sync is done, with the own Node and no other.
    fn synced() -> Self {
        let mut bench = Self::new();
        bench.take([node("node-a", 1)]);
        bench.network_loop.take(Event::Synced, bench.now);
        bench.turn();
        assert_eq!(bench.calls(), ["uplinks of [192.0.2.1]", "resync 0"]);
        bench
    }

    fn take(&mut self, updates: impl IntoIterator<Item = Update>) {
        self.network_loop.take(Event::Updates(updates.into_iter().collect()), self.now);
    }

    fn hear(&mut self, news: News) {
        assert!(self.network_loop.hear(Message::News(news), self.now).is_continue());
    }

    fn turn(&mut self) -> Option<Duration> {
        self.network_loop.turn(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What the kernel was told since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.record.lock().unwrap().calls)
    }

    fn answers_well(&self) -> bool {
        self.telemetry.health.is_programming(self.now + Duration::from_secs(61))
    }

    fn published(&self) -> Option<Published> {
        Published::read(&self.folder.path().join("network.json")).ok()
    }

    fn known(&self) -> NetworkKnown {
        self.telemetry.network.now().unwrap().1
    }
}

/// A node of this number, as flannel would have it.
fn node(name: &str, number: u8) -> Update {
    let address = format!("192.0.2.{number}");
    let annotations = [
        ("flannel.alpha.coreos.com/kube-subnet-manager", "true".to_owned()),
        ("flannel.alpha.coreos.com/backend-type", "host-gw".to_owned()),
        ("flannel.alpha.coreos.com/backend-data", "null".to_owned()),
        ("flannel.alpha.coreos.com/public-ip", address.clone()),
    ];
    Update::Node(Box::new(Node {
        metadata: Metadata {
            name: name.to_owned(),
            annotations: annotations.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Metadata::default()
        },
        spec: NodeSpec { pod_cidrs: vec![format!("10.244.{number}.0/24")], ..NodeSpec::default() },
        status: NodeStatus {
            addresses: vec![NodeAddress { address_type: "InternalIP".to_owned(), address }],
        },
    }))
}

fn gone(name: &str) -> Update {
    Update::Deleted(ObjectRef { kind: Kind::Node, name: ObjectName::new("", name) })
}

#[test]
fn nothing_is_programmed_before_all_nodes_are_known() {
    let mut bench = Bench::new();
    bench.take([node("node-a", 1), node("node-b", 2)]);
    bench.hear(News::Damage("somebody".to_owned()));
    assert_eq!(bench.turn(), None);
    assert_eq!((bench.calls(), bench.published()), (vec![], None));
    bench.network_loop.take(Event::Synced, bench.now);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), ["uplinks of [192.0.2.1]", "resync 1"]);
    assert!(bench.answers_well());
    let published = bench.published().expect("it is ready");
    assert_eq!((published.mtu, &*published.backend, &*published.data_path), (1500, "host-gw", "routed"));
    assert_eq!(published.pod_cidrs, ["10.244.1.0/24".parse::<IpNet>().unwrap()]);
    assert!(bench.folder.path().join("10-a.conflist").exists());
    let known = bench.known();
    assert_eq!((known.ready, known.direct, known.tunnelled, known.mtu), (true, 1, 0, Some(1500)));
    assert_eq!(known.uplinks, ["eth0 192.0.2.1"]);
}

#[test]
fn changes_are_programmed_at_once_and_only_if_there_are_any() {
    let mut bench = Bench::synced();
    bench.take([node("node-b", 2)]);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), ["apply 1 of 1"]);
    assert!(bench.answers_well());
    // As each does every few minutes.
    bench.take([node("node-b", 2), node("node-a", 1)]);
    bench.turn();
    assert_eq!(bench.calls(), [""; 0]);
    assert!(bench.answers_well());
    bench.take([gone("node-b")]);
    bench.turn();
    assert_eq!((bench.calls(), bench.known().direct), (vec!["apply 1 of 0".to_owned()], 0));
}

#[test]
fn a_failure_is_followed_by_a_resync_with_backoff() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().failures = 2;
    bench.take([node("node-b", 2)]);
    let first = bench.turn().expect("another attempt");
    assert_eq!(bench.calls(), ["apply 1 of 1"]);
    assert!(!bench.answers_well());
    bench.turn();
    assert_eq!(bench.calls(), [""; 0], "not before its time");
    bench.pass(first);
    let second = bench.turn().expect("another attempt");
    assert!(second > first, "{second:?}");
    bench.pass(second);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 1", "resync 1"]);
    assert!(bench.answers_well());
    assert_eq!(bench.known().direct, 1);
}

#[test]
fn damage_is_repaired_at_once_but_not_over_and_over() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().operations = 1;
    let damage = |bench: &mut Bench| bench.hear(News::Damage("ip removed a route".to_owned()));
    damage(&mut bench);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
    let drift = bench.telemetry.network.drift.get();
    assert_eq!((drift.count, &*drift.last[0].cause), (1, "ip removed a route"));
    damage(&mut bench);
    let wait = bench.turn().expect("a repair later on");
    assert!(wait > Duration::from_millis(100) && wait <= Duration::from_millis(500), "{wait:?}");
    assert_eq!(bench.calls(), [""; 0]);
    bench.pass(wait);
    bench.turn();
    assert_eq!(bench.calls(), ["resync 0"]);
    assert_eq!(bench.telemetry.network.drift.get().count, 2);
}

#[test]
fn without_a_device_or_a_range_it_is_not_ready_and_says_why() {
    let mut bench = Bench::new();
    bench.record.lock().unwrap().no_uplink = true;
    let Update::Node(mut without) = node("node-a", 1) else { unreachable!() };
    without.spec.pod_cidrs.clear();
    bench.take([Update::Node(without)]);
    bench.network_loop.take(Event::Synced, bench.now);
    let wait = bench.turn().expect("another look");
    assert_eq!(bench.published(), None);
    let why = bench.known().why_not.unwrap();
    assert!(why.contains("none has the address"), "{why}");
    bench.record.lock().unwrap().no_uplink = false;
    bench.pass(wait);
    bench.turn();
    let why = bench.known().why_not.unwrap();
    assert!(why.contains("node-a has no podCIDR"), "{why}");
    bench.take([node("node-a", 1)]);
    bench.turn();
    assert!(bench.known().ready && bench.published().is_some());
    // Its range is taken from it; what container runtimes are told stays, for the pods that there are.
    bench.take([gone("node-a")]);
    bench.turn();
    assert!(!bench.known().ready && bench.published().is_none());
    assert!(bench.folder.path().join("10-a.conflist").exists());
}

#[test]
fn devices_are_looked_for_when_something_of_them_changes() {
    let mut bench = Bench::synced();
    bench.hear(News::Uplink);
    let wait = bench.turn().expect("a look, not at once");
    bench.hear(News::Uplink);
    bench.pass(wait);
    bench.turn();
    assert_eq!(bench.calls(), ["uplinks of [192.0.2.1]"]);
    // The Node's address is another.
    let Update::Node(mut moved) = node("node-a", 1) else { unreachable!() };
    moved.status.addresses[0].address = "192.0.2.9".to_owned();
    bench.take([Update::Node(moved)]);
    bench.turn();
    assert_eq!(bench.calls(), ["uplinks of [192.0.2.9]", "apply 0 of 0"]);
}

#[test]
fn what_the_kernel_refused_and_files_that_others_damage_are_seen_to_now_and_then() {
    let mut bench = Bench::synced();
    bench.record.lock().unwrap().refused = vec![("10.244.2.0/24".parse().unwrap(), "no".to_owned())];
    bench.take([node("node-b", 2)]);
    let wait = bench.turn().expect("another attempt");
    assert_eq!((bench.calls(), bench.known().refused), (vec!["apply 1 of 1".to_owned()], 1));
    bench.record.lock().unwrap().refused.clear();
    bench.pass(wait);
    bench.turn();
    assert_eq!((bench.calls(), bench.known().refused), (vec!["resync 1".to_owned()], 0));
    fs::remove_file(bench.folder.path().join("network.json")).unwrap();
    bench.pass(wait);
    bench.turn();
    assert!(bench.published().is_some());
    assert_eq!(bench.calls(), [""; 0]);
}

#[test]
fn a_thread_runs_until_it_is_told_to_stop_and_hears_of_damage() {
    let Bench { mut network_loop, record, telemetry, folder, .. } = Bench::new();
    let (told, calls) = std::sync::mpsc::channel();
    *record.lock().unwrap() = Record { operations: 1, told: Some(told), ..Record::default() };
    let (inbox, inputs) = channel();
    let outside = inbox.clone();
    let running = thread::spawn(move || event_loop::run(&mut network_loop, inbox, &inputs));
    assert!(outside.put(Input::Event(Event::Updates(vec![node("node-a", 1)]))));
    assert!(outside.put(Input::Event(Event::Synced)));
    for call in ["resync 0", "watch", "resync 0", "resync 0"] {
        assert_eq!(calls.recv_timeout(Duration::from_secs(20)).as_deref(), Ok(call));
    }
    outside.stop();
    running.join().unwrap().unwrap();
    assert!(telemetry.network.drift.get().last.iter().any(|repair| repair.cause.contains("process 7")));
    assert!(folder.path().join("network.json").exists(), "what is in force stays, and so what is told of it");
}

#[test]
fn a_source_that_fails_ends_the_loop() {
    let (inbox, inputs) = channel();
    inbox.fail(anyhow::anyhow!("gone"));
    let error = event_loop::run(&mut Bench::new().network_loop, inbox, &inputs).unwrap_err();
    assert_eq!(error.to_string(), "gone");
}
