//! A small cluster on one node, and who of it may reach whom.

use endpoint_cache::Protocol;
use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use policy::{Compiler, Connection, Delta, Update, Verdict};
use serde_json::{Value, json};

pub(crate) const NODE: &str = "node-1";
pub(crate) const OTHER_NODE: &str = "192.168.50.2";
pub(crate) const OUTSIDE: &str = "203.0.113.9";

/// Objects as they come, compiled as they come.
pub(crate) struct Cluster {
    pub(crate) compiler: Compiler,
}

impl Cluster {
    /// | | address | labels |
    /// |---|---|---|
    /// | `default/db` | 10.0.0.1, fd00::1 | `role=db` |
    /// | `default/web` | 10.0.0.2, fd00::2 | `role=frontend` |
    /// | `default/bare` | 10.0.0.3 | |
    /// | `blue/web` | 10.0.1.1, fd00::11 | `role=frontend` |
    /// | `blue/db` | 10.0.1.2 | `role=db` |
    /// | `red/web` | 10.0.2.1 | `role=frontend` |
    ///
    /// Namespace `blue` has `project=myproject`, `red` has none.
    pub(crate) fn new() -> Self {
        let mut cluster = Self { compiler: Compiler::new(NODE) };
        cluster.namespace("default", json!({}));
        cluster.namespace("blue", json!({ "project": "myproject" }));
        cluster.namespace("red", json!({}));
        cluster.pod("default/db", &["10.0.0.1", "fd00::1"], json!({ "role": "db" }));
        cluster.pod("default/web", &["10.0.0.2", "fd00::2"], json!({ "role": "frontend" }));
        cluster.pod("default/bare", &["10.0.0.3"], json!({}));
        cluster.pod("blue/web", &["10.0.1.1", "fd00::11"], json!({ "role": "frontend" }));
        cluster.pod("blue/db", &["10.0.1.2"], json!({ "role": "db" }));
        cluster.pod("red/web", &["10.0.2.1"], json!({ "role": "frontend" }));
        cluster
    }

    /// With one policy, which is sound.
    pub(crate) fn with(spec: Value) -> Self {
        let mut cluster = Self::new();
        let delta = cluster.policy("default/it", spec);
        assert_eq!(delta.problems, []);
        cluster
    }

    pub(crate) fn namespace(&mut self, name: &str, labels: Value) -> Delta {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        self.update(Update::Namespace(serde_json::from_value(namespace).unwrap()))
    }

    pub(crate) fn pod(&mut self, name: &str, addresses: &[&str], labels: Value) -> Delta {
        self.any_pod(name, addresses, labels, json!({}), json!({}))
    }

    /// A pod with more in its spec, or something else in its status.
    pub(crate) fn any_pod(
        &mut self,
        name: &str,
        addresses: &[&str],
        labels: Value,
        spec: Value,
        status: Value,
    ) -> Delta {
        let (namespace, name) = name.split_once('/').unwrap();
        let listed: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let mut pod = json!({
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": { "nodeName": NODE },
            "status": { "phase": "Running", "podIP": addresses.first(), "podIPs": listed },
        });
        for (part, more) in [("spec", spec), ("status", status)] {
            pod[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        self.update(Update::Pod(serde_json::from_value(pod).unwrap()))
    }

    pub(crate) fn policy(&mut self, name: &str, spec: Value) -> Delta {
        let (namespace, name) = name.split_once('/').unwrap();
        let policy = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": spec });
        self.update(Update::NetworkPolicy(serde_json::from_value(policy).unwrap()))
    }

    pub(crate) fn delete(&mut self, kind: Kind, name: &str) -> Delta {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        self.update(Update::Deleted(ObjectRef { kind, name: ObjectName::new(namespace, name) }))
    }

    pub(crate) fn update(&mut self, update: Update) -> Delta {
        self.compiler.apply(update);
        self.compiler.take_delta()
    }

    pub(crate) fn verdict(&self, from: &str, to: &str, protocol: Protocol, port: u16) -> Verdict {
        let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
        self.compiler.program().verdict(&Connection { source, destination, protocol, port })
    }

    /// At TCP port 80.
    pub(crate) fn reaches(&self, from: &str, to: &str) -> bool {
        self.reaches_at(from, to, Protocol::Tcp, 80)
    }

    pub(crate) fn reaches_at(&self, from: &str, to: &str, protocol: Protocol, port: u16) -> bool {
        self.verdict(from, to, protocol, port).allows()
    }

    /// Which of the cluster's IPv4 pods, the other node and the outside reach it at TCP port 80.
    pub(crate) fn who_reaches(&self, to: &str) -> Vec<&'static str> {
        EVERYBODY.into_iter().filter(|(from, _)| self.reaches(from, to)).map(|(_, name)| name).collect()
    }

    /// Whom of those it reaches at TCP port 80.
    pub(crate) fn who_is_reached_by(&self, from: &str) -> Vec<&'static str> {
        EVERYBODY.into_iter().filter(|(to, _)| self.reaches(from, to)).map(|(_, name)| name).collect()
    }
}

pub(crate) const DB: &str = "10.0.0.1";
pub(crate) const WEB: &str = "10.0.0.2";
pub(crate) const BARE: &str = "10.0.0.3";
pub(crate) const BLUE_WEB: &str = "10.0.1.1";
pub(crate) const BLUE_DB: &str = "10.0.1.2";
pub(crate) const RED_WEB: &str = "10.0.2.1";

const EVERYBODY: [(&str, &str); 8] = [
    (DB, "db"),
    (WEB, "web"),
    (BARE, "bare"),
    (BLUE_WEB, "blue/web"),
    (BLUE_DB, "blue/db"),
    (RED_WEB, "red/web"),
    (OTHER_NODE, "node"),
    (OUTSIDE, "outside"),
];

/// All of them.
pub(crate) const ALL: [&str; 8] = ["db", "web", "bare", "blue/web", "blue/db", "red/web", "node", "outside"];
