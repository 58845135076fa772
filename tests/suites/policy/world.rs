//! A cluster with policies: pods with labels in namespaces, on the bed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::suite::Circumstances;
use testbed::{Family, Place, Pod, Responder, Subject, cluster};

/// What the loop of policies logs when they are in force.
const ENFORCED: &str = "policies enforced";

/// The port of an outsider that answers.
pub(crate) const OUTSIDE_PORTS: [u16; 2] = [testbed::POD_PORT, testbed::OTHER_POD_PORT];

/// The bed, and what policies know of it.
pub(crate) struct World {
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

impl World {
    /// Three pods on this node, two on the other: `pod-1`, `pod-2` and `remote-1` in namespace `default`, the rest in
    /// `other`. Labels: `app` is `web`, `db`, `web`, and `web`, `db` for the remote ones; `number` is the number.
    pub(crate) fn prepare(circumstances: Circumstances) -> Result<Self> {
        let mut s = Subject::prepare(circumstances)?;
        s.args(&["--network-policy=on"]);
        let mut world = Self {
            s,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            outside: Vec::new(),
        };
        world.namespace("default", &[("team", "a")]);
        world.namespace("other", &[("team", "b")]);
        let apps = ["web", "db", "web", "web", "db"];
        let homes = ["default", "default", "other", "default", "other"];
        let pods: Vec<Pod> = world.s.bed.all_pods().into_iter().cloned().collect();
        for ((pod, app), home) in pods.iter().zip(apps).zip(homes) {
            world.pod(pod, home, &[("app", app), ("number", &pod.number.to_string())]);
        }
        world.answer_outside()?;
        let ranges = Family::BOTH.map(|family| format!("{}", own_range(family)));
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        let addresses = Family::BOTH.map(Family::node);
        world.s.cluster.put_other("node", cluster::node(None, &addresses, &ranges));
        Ok(world)
    }

    pub(crate) fn explain(&self) -> String {
        let policies = self.policies.values().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let list = |args: &[&str]| self.s.bed.node.output(args[0], &args[1..]).unwrap_or_else(|e| format!("{e:#}"));
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
        let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec });
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
        let all = all.chain(self.namespaces.iter().map(|(name, object)| (format!("namespace {name}"), object)));
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
        proxy.await_line_with(ENFORCED).map(drop)
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
        self.ends().into_iter().find(|end| end.name == name).with_context(|| format!("nobody is called {name}"))
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

/// The range of this node's pods' addresses on the bed.
pub(crate) fn own_range(family: Family) -> String {
    match family {
        Family::V4 => format!("{}/24", family.pod(0, 0)),
        Family::V6 => format!("{}/112", family.pod(0, 0)),
    }
}

fn map(labels: &[(&str, &str)]) -> Value {
    labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}
