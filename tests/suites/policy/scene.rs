//! A cluster with policies: pods with labels in namespaces, on the bed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::suite::Circumstances;
use testbed::{
    Conversation, Family, Outcome, Place, Pod, Protocol, Responder, Subject, await_that, binary, cluster,
};

/// What the loop of policies logs when they are in force.
const ENFORCED: &str = "policies enforced";

/// Where policies enforced by iptables begin.
const IPTABLES_ENTRY: &str = "KUBE-POLICY-FORWARD";

/// How soon what others damage is to be repaired.
const REPAIR: Duration = Duration::from_secs(5);

/// The ports at which pods and outsiders answer.
pub(crate) const OUTSIDE_PORTS: [u16; 2] = [testbed::POD_PORT, testbed::OTHER_POD_PORT];

/// The bed, and what policies know of it.
pub(crate) struct Scene {
    pub(crate) s: Subject,
    /// By name: the object as the API server has it.
    pods: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, Value>,
    policies: BTreeMap<(String, String), Value>,
    outside: Vec<Responder>,
}

/// Somebody who connects or is connected to.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
}

impl Scene {
    /// Three pods on this node, two on the other: `pod-1`, `pod-2` and `remote-1` in namespace `default`, the rest in
    /// `other`. Labels: `app` is `web`, `db`, `web`, and `web`, `db` for the remote ones; `number` is the number.
    pub(crate) fn prepare(circumstances: Circumstances) -> Result<Self> {
        let mut s = Subject::prepare(circumstances)?;
        s.args(&["--network-policy=on"]);
        let mut scene = Self {
            s,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            outside: Vec::new(),
        };
        scene.namespace("default", &[("team", "a")]);
        scene.namespace("other", &[("team", "b")]);
        let apps = ["web", "db", "web", "web", "db"];
        let homes = ["default", "default", "other", "default", "other"];
        let pods: Vec<Pod> = scene.s.bed.all_pods().into_iter().cloned().collect();
        for ((pod, app), home) in pods.iter().zip(apps).zip(homes) {
            scene.pod(pod, home, &[("app", app), ("number", &pod.number.to_string())]);
        }
        scene.answer_outside()?;
        let ranges = Family::BOTH.map(own_range);
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        let addresses = Family::BOTH.map(Family::node);
        scene.s.cluster.put_other("node", cluster::node(None, &addresses, &ranges));
        Ok(scene)
    }

    pub(crate) fn explain(&self) -> String {
        let policies = self.policies.values().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let list =
            |args: &[&str]| self.s.bed.node.output(args[0], &args[1..]).unwrap_or_else(|e| format!("{e:#}"));
        format!(
            "--- policies\n{policies}\n{}\n--- nft\n{}\n--- ipset\n{}",
            self.s.explain(),
            list(&["nft", "list", "ruleset"]),
            list(&["ipset", "list"]),
        )
    }

    fn answer_outside(&mut self) -> Result<()> {
        for address in [self.family().client(), self.family().foreign_client()] {
            for port in OUTSIDE_PORTS {
                let name = if address == self.family().client() { "client" } else { "foreign" };
                self.outside.push(Responder::new(&self.s.bed.client, (address, port).into(), name)?);
            }
        }
        Ok(())
    }

    pub(crate) fn family(&self) -> Family {
        self.s.family()
    }

    /// Adds or replaces a namespace.
    pub(crate) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": map(labels) } });
        self.namespaces.insert(name.to_owned(), object);
    }

    pub(crate) fn delete_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Adds or replaces a pod of the bed, with a named port for each port: `http` and `admin`.
    pub(crate) fn pod(&mut self, pod: &Pod, namespace: &str, labels: &[(&str, &str)]) {
        let ips: Vec<Value> =
            Family::BOTH.iter().map(|family| json!({ "ip": pod.ip(*family).to_string() })).collect();
        let ports = json!([
            { "name": "http", "containerPort": testbed::POD_PORT },
            { "name": "admin", "containerPort": testbed::OTHER_POD_PORT },
            { "name": "dns", "containerPort": testbed::POD_PORT, "protocol": "UDP" },
        ]);
        let object = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod.name, "namespace": namespace, "labels": map(labels) },
            "spec": { "nodeName": pod.node, "containers": [{ "ports": ports }] },
            "status": { "phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips } });
        self.pods.insert(pod.name.clone(), object);
    }

    /// The object of a pod, to change it.
    pub(crate) fn object(&mut self, pod: &str) -> &mut Value {
        self.pods.get_mut(pod).unwrap_or_else(|| panic!("no pod {pod}"))
    }

    pub(crate) fn set_label(&mut self, pod: &str, key: &str, value: &str) {
        self.object(pod)["metadata"]["labels"][key] = json!(value);
    }

    pub(crate) fn delete_pod(&mut self, pod: &str) -> Value {
        self.pods.remove(pod).unwrap_or_else(|| panic!("no pod {pod}"))
    }

    pub(crate) fn put_pod(&mut self, object: Value) {
        self.pods.insert(object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), object);
    }

    /// Adds or replaces a policy.
    pub(crate) fn policy(&mut self, namespace: &str, name: &str, spec: Value) -> &mut Self {
        let mut object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": namespace } });
        object["spec"] = spec;
        self.policies.insert((namespace.to_owned(), name.to_owned()), object);
        self
    }

    pub(crate) fn delete_policy(&mut self, namespace: &str, name: &str) {
        self.policies.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// No policies any more.
    pub(crate) fn forget_policies(&mut self) {
        self.policies.clear();
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Value> {
        self.pods.values()
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Value> {
        self.namespaces.values()
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = &Value> {
        self.policies.values()
    }

    /// Writes the objects into the cluster that is served.
    pub(crate) fn write(&mut self) {
        let all = self.pods.iter().map(|(name, object)| (format!("pod {name}"), object));
        let all =
            all.chain(self.namespaces.iter().map(|(name, object)| (format!("namespace {name}"), object)));
        let policies = self.policies.iter();
        let all = all.chain(policies.map(|((home, name), object)| (format!("policy {home}/{name}"), object)));
        let all: BTreeMap<String, Value> = all.map(|(name, object)| (name, object.clone())).collect();
        for kind in ["pod ", "namespace ", "policy "] {
            self.s.cluster.delete_others_with(kind);
        }
        for (name, object) in all {
            self.s.cluster.put_other(&name, object);
        }
    }

    /// Brings the objects into force: at first by starting the process.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.write();
        if self.s.is_started() {
            let manifest = self.s.cluster.manifest();
            let proxy = self.s.proxy()?;
            return proxy.await_line_after(ENFORCED, || proxy.write("cluster.json", &manifest)).map(drop);
        }
        self.s.launch()?;
        let proxy = self.s.proxy()?;
        proxy.await_line_with("synced changes")?;
        proxy.await_line_with(ENFORCED)?;
        self.await_first()
    }

    /// Waits until policies come before the proxy's rules, which may have come later, and accept what goes on.
    fn await_first(&self) -> Result<()> {
        let program = match (self.s.mode().name, self.is_v4()) {
            ("iptables-nft", true) => "iptables-nft",
            ("iptables-nft", false) => "ip6tables-nft",
            ("iptables-legacy", true) => "iptables-legacy",
            ("iptables-legacy", false) => "ip6tables-legacy",
            _ => return Ok(()),
        };
        await_that("policies come first", || {
            let rules = self.s.bed.node.output(program, &["-S", "FORWARD"])?;
            Ok(rules.lines().nth(1).is_some_and(|rule| rule.contains(IPTABLES_ENTRY)))
        })
    }

    /// Starts the process again after it ended, on what the objects are by now.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.write();
        let manifest = self.s.cluster.manifest();
        let mut proxy = self.s.take_proxy()?;
        let written = proxy.write("cluster.json", &manifest);
        let result = written.and_then(|()| proxy.start_again_until(&self.s.bed.node, ENFORCED));
        self.s.give_proxy(proxy);
        result
    }

    /// What comes of a TCP connection to the first port.
    pub(crate) fn attempt(&self, from: &str, to: &str) -> Result<Outcome> {
        let to = (self.end(to)?.ip, OUTSIDE_PORTS[0]).into();
        self.place(&self.end(from)?).connect_briefly(Protocol::Tcp, to)
    }

    pub(crate) fn reaches(&self, from: &str, to: &str) -> Result<()> {
        let outcome = self.attempt(from, to)?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "{from} to {to}: {outcome}");
        Ok(())
    }

    pub(crate) fn refuses(&self, from: &str, to: &str) -> Result<()> {
        let outcome = self.attempt(from, to)?;
        ensure!(outcome == Outcome::Refused, "{from} to {to}: {outcome}");
        Ok(())
    }

    pub(crate) fn is_silent(&self, from: &str, to: &str) -> Result<()> {
        let outcome = self.attempt(from, to)?;
        ensure!(outcome == Outcome::Silence, "{from} to {to}: {outcome}");
        Ok(())
    }

    /// The process logs that a connection is, or would be, denied, and by which policy.
    pub(crate) fn is_told(&mut self, from: &str, to: &str, policy: &str) -> Result<()> {
        let (from, to) = (self.end(from)?.ip.to_string(), self.end(to)?.ip.to_string());
        let proxy = self.s.proxy()?;
        await_that("the log tells of it", || {
            let words = [from.as_str(), to.as_str(), policy];
            Ok(proxy.log().lines().any(|line| words.iter().all(|word| line.contains(word))))
        })
    }

    /// Who comes of a connection to the Service `web`.
    pub(crate) fn asks_service(&self, from: &str, is: impl Fn(&Outcome) -> bool) -> Result<()> {
        self.asks(from, self.s.web_address(), is)
    }

    /// What comes of a connection to an address is as it should be.
    pub(crate) fn asks(&self, from: &str, to: SocketAddr, is: impl Fn(&Outcome) -> bool) -> Result<()> {
        let outcome = self.place(&self.end(from)?).connect(Protocol::Tcp, to)?;
        ensure!(is(&outcome), "{from} to {to}: {outcome}");
        Ok(())
    }

    /// Opens a connection that stays.
    pub(crate) fn converse(&self, from: &str, to: &str) -> Result<Conversation> {
        self.place(&self.end(from)?).open((self.end(to)?.ip, OUTSIDE_PORTS[0]).into())
    }

    /// Somebody damages the rules.
    pub(crate) fn damage(&mut self) -> Result<()> {
        let (node, v4) = (&self.s.bed.node, self.is_v4());
        let (program, args): (&str, &[&str]) = match (self.s.mode().name, v4) {
            ("iptables-nft", true) => ("iptables-nft", &["-F", IPTABLES_ENTRY]),
            ("iptables-nft", false) => ("ip6tables-nft", &["-F", IPTABLES_ENTRY]),
            ("iptables-legacy", true) => ("iptables-legacy", &["-F", IPTABLES_ENTRY]),
            ("iptables-legacy", false) => ("ip6tables-legacy", &["-F", IPTABLES_ENTRY]),
            (_, true) => ("nft", &["delete", "table", "ip", "pointsman-policy"]),
            (_, false) => ("nft", &["flush", "chain", "ip6", "pointsman-policy", "connections"]),
        };
        node.output(program, args).map(drop)
    }

    /// Waits until a connection is refused again.
    pub(crate) fn await_refusal(&self, from: &str, to: &str) -> Result<()> {
        let to = (self.end(to)?.ip, OUTSIDE_PORTS[0]).into();
        let refused = |outcome: &Outcome| *outcome == Outcome::Refused;
        self.place(&self.end(from)?).connect_until(Protocol::Tcp, to, REPAIR, refused).map(drop)
    }

    /// Removes whatever was programmed.
    pub(crate) fn cleanup(&self) -> Result<()> {
        self.s.bed.node.output(&binary()?.to_string_lossy(), &["--cleanup"]).map(drop)
    }

    /// Joins pods by a bridge. What passes it meets the rules of routed packets.
    pub(crate) fn use_bridge(&mut self) -> Result<()> {
        self.s.use_bridge()?;
        self.outside.clear();
        self.answer_outside()?;
        for family in ["iptables", "ip6tables"] {
            self.s.bed.node.sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "1")?;
        }
        Ok(())
    }

    /// Has a pod count the packets that it gets from an address.
    pub(crate) fn count_arrivals(&self, from: &str, at: &str) -> Result<()> {
        let family = if self.is_v4() { "ip" } else { "ip6" };
        let rule = format!("{family} saddr {} counter", self.end(from)?.ip);
        let hook = "type filter hook prerouting priority raw";
        let table = format!("table inet arrivals {{ chain prerouting {{ {hook}; {rule}; }}; }}\n");
        self.place(&self.end(at)?).namespace.feed("nft", &["-f", "-"], &table).map(drop)
    }

    /// How many that were.
    pub(crate) fn arrivals(&self, at: &str) -> Result<u64> {
        let listed =
            self.place(&self.end(at)?).namespace.output("nft", &["list", "table", "inet", "arrivals"])?;
        let count = listed.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in {listed}"))
    }

    /// Writes the objects for the process to find, and does not wait.
    pub(crate) fn write_without_waiting(&mut self) -> Result<()> {
        self.write();
        let manifest = self.s.cluster.manifest();
        self.s.proxy()?.write("cluster.json", &manifest)
    }

    /// Somebody connects without pause, in one way, while something else is done; what came of each try.
    pub(crate) fn while_trying(
        &mut self,
        from: &str,
        to: &str,
        connect: fn(&Place<'_>, Protocol, SocketAddr) -> Result<Outcome>,
        meanwhile: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Vec<Outcome>> {
        /// Tries after something was done, at least.
        const AFTER: usize = 5;
        let to = (self.end(to)?.ip, OUTSIDE_PORTS[0]).into();
        let place = self.place(&self.end(from)?);
        let (namespace, source) = (place.namespace.again()?, place.source);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let trying = scope.spawn(|| {
                let place = Place { namespace: &namespace, source };
                let (mut tried, mut after) = (Vec::new(), 0);
                while after < AFTER {
                    after += usize::from(done.load(Ordering::Relaxed));
                    tried.push(connect(&place, Protocol::Tcp, to)?);
                }
                Ok(tried)
            });
            let result = meanwhile(self);
            done.store(true, Ordering::Relaxed);
            let tried = trying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(tried)
        })
    }

    /// An address as a range of its own.
    pub(crate) fn single(&self, address: IpAddr) -> String {
        format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.family() == Family::V4
    }

    /// A range that holds both outsiders.
    pub(crate) fn around_clients(&self) -> String {
        (if self.is_v4() { "203.0.0.0/16" } else { "fd00:203::/32" }).to_owned()
    }

    /// All addresses of the family.
    pub(crate) fn everything(&self) -> &'static str {
        if self.is_v4() { "0.0.0.0/0" } else { "::/0" }
    }

    /// From where somebody connects.
    pub(crate) fn place(&self, end: &End) -> Place<'_> {
        let bed = &self.s.bed;
        match end.name.as_str() {
            "node" => Place::of(&bed.node),
            "client" | "foreign" => Place::of(&bed.client).from_address(end.ip),
            name if name.starts_with("remote") => Place::of(&bed.peer).from_address(end.ip),
            name => {
                let number = name.trim_start_matches("pod-").parse().unwrap_or(1);
                Place::of(bed.pod_namespace(number))
            }
        }
    }

    /// Somebody by name.
    pub(crate) fn end(&self, name: &str) -> Result<End> {
        self.ends()
            .into_iter()
            .find(|end| end.name == name)
            .with_context(|| format!("nobody is called {name}"))
    }

    /// Everybody: pods, the node, outsiders.
    pub(crate) fn ends(&self) -> Vec<End> {
        let family = self.family();
        let pods = self.s.bed.all_pods().into_iter().map(|pod| (pod.name.as_str(), pod.ip(family)));
        let others =
            [("node", family.node()), ("client", family.client()), ("foreign", family.foreign_client())];
        pods.chain(others).map(|(name, ip)| End { name: name.to_owned(), ip }).collect()
    }
}

/// Only pods with `app: web` may come to those with `app: db`.
pub(crate) fn only_web() -> Value {
    json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }] })
}

/// The range of this node's pods' addresses on the bed.
pub(crate) fn own_range(family: Family) -> String {
    match family {
        Family::V4 => format!("{}/24", family.pod(0, 0)),
        Family::V6 => format!("{}/112", family.pod(0, 0)),
    }
}

fn map(labels: &[(&str, &str)]) -> Value {
    labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
