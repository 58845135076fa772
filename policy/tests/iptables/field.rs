//! The bed, the objects, and the enforcer that is at work on the bed's node.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use kernel::iptables::Backend;
use policy::iptables::Iptables;
use policy::{Compiler, Counts, Delta, Enforcer, Report, Settings, Update};
use serde_json::{Value, json};
use testbed::{Bed, Family, Iptables as Tool, Layout, OTHER_POD_PORT, Outcome, POD_PORT, Place, Protocol};

/// On which back end, in which family.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) backend: Backend,
    pub(crate) family: Family,
}

/// What a scenario starts from.
#[derive(Default)]
pub(crate) struct SetUp {
    pub(crate) settings: Settings,
    pub(crate) layout: Layout,
}

/// Pods `pod-1` (app web), `pod-2` (app db) of this node and `remote-1` of the other (app web), all in namespace
/// `default`; `pod-3` of this node (app web) in namespace `other`.
pub(crate) struct Field {
    pub(crate) bed: Bed,
    pub(crate) family: Family,
    pub(crate) backend: Backend,
    pub(crate) settings: Settings,
    pub(crate) compiler: Compiler,
    pub(crate) enforcer: Iptables,
}

impl Field {
    /// With everything known and in force, and no policies.
    pub(crate) fn new(circumstances: Circumstances, set_up: SetUp) -> Result<Self> {
        let Circumstances { backend, family } = circumstances;
        let bed = Bed::new(set_up.layout, 3, 1)?;
        let settings = set_up.settings;
        let enforcer = bed.node.run(|| Iptables::new(settings.clone(), Some(backend)))??;
        let mut field = Self { bed, family, backend, settings, compiler: Compiler::new("node"), enforcer };
        field.namespace("default", &json!({ "team": "a" }))?;
        field.namespace("other", &json!({ "team": "b" }))?;
        field.pod("pod-1", "default", "web")?;
        field.pod("pod-2", "default", "db")?;
        field.pod("pod-3", "other", "web")?;
        field.pod("remote-1", "default", "web")?;
        let ranges = match family {
            Family::V4 => "10.180.0.0/24",
            Family::V6 => "fd00:10:180::/64",
        };
        field
            .put(json!({ "metadata": { "name": "node" }, "spec": { "podCIDRs": [ranges] } }), Update::Node)?;
        field.compiler.take_delta();
        field.resync()?;
        Ok(field)
    }

    fn put<T: serde::de::DeserializeOwned>(&mut self, object: Value, update: fn(T) -> Update) -> Result<()> {
        self.compiler.apply(update(serde_json::from_value(object)?));
        Ok(())
    }

    pub(crate) fn namespace(&mut self, name: &str, labels: &Value) -> Result<()> {
        self.put(json!({ "metadata": { "name": name, "labels": labels } }), Update::Namespace)
    }

    /// Adds or replaces a pod, which calls its ports `http` and `admin`.
    pub(crate) fn pod(&mut self, name: &str, namespace: &str, app: &str) -> Result<()> {
        let all = self.bed.all_pods();
        let pod = all.into_iter().find(|pod| pod.name == name).context("there is no such pod")?;
        let ip = pod.ip(self.family).to_string();
        let object = json!({
            "metadata": { "name": name, "namespace": namespace, "labels": { "app": app } },
            "spec": { "nodeName": pod.node, "containers": [{ "ports": [
                { "name": "http", "containerPort": POD_PORT },
                { "name": "admin", "containerPort": OTHER_POD_PORT },
            ] }] },
            "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
        });
        self.put(object, Update::Pod)
    }

    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        self.compiler.apply(Update::Deleted(ObjectRef { kind, name: ObjectName::new(namespace, name) }));
    }

    /// Adds or replaces a policy of namespace `default`, and has it in force.
    pub(crate) fn policy(&mut self, name: &str, spec: &Value) -> Result<Report> {
        self.put(json!({ "metadata": { "name": name }, "spec": spec }), Update::NetworkPolicy)?;
        self.sync()
    }

    pub(crate) fn delete_policy(&mut self, name: &str) -> Result<Report> {
        self.delete(Kind::NetworkPolicy, "default", name);
        self.sync()
    }

    /// Has what changed in force.
    pub(crate) fn sync(&mut self) -> Result<Report> {
        let delta: Delta = self.compiler.take_delta();
        ensure!(delta.problems.is_empty(), "{:?}", delta.problems);
        let (program, enforcer) = (self.compiler.program(), &mut self.enforcer);
        Ok(self.bed.node.run(|| enforcer.apply(program, &delta))??)
    }

    pub(crate) fn resync(&mut self) -> Result<Report> {
        let (program, enforcer) = (self.compiler.program(), &mut self.enforcer);
        Ok(self.bed.node.run(|| enforcer.resync(program))??)
    }

    /// As after a restart, with other settings perhaps.
    pub(crate) fn restart(&mut self, settings: Settings) -> Result<Report> {
        self.enforcer = self.bed.node.run(|| Iptables::new(settings.clone(), Some(self.backend)))??;
        self.settings = settings;
        self.resync()
    }

    pub(crate) fn counts(&mut self) -> Result<Counts> {
        let enforcer = &mut self.enforcer;
        Ok(self.bed.node.run(|| enforcer.counts())??)
    }

    /// The command line tool of the back end and family.
    pub(crate) fn tool(&self) -> Tool<'_> {
        let backend = match self.backend {
            Backend::Nft => testbed::Backend::Nft,
            Backend::Legacy => testbed::Backend::Legacy,
        };
        Tool { node: &self.bed.node, backend, family: self.family }
    }

    /// Everybody's address: `pod-1`, `remote-1`, `node`, `client`, `foreign`.
    pub(crate) fn ip(&self, name: &str) -> IpAddr {
        match name {
            "node" => self.family.node(),
            "client" => self.family.client(),
            "foreign" => self.family.foreign_client(),
            name => {
                let all = self.bed.all_pods();
                let pod = all.into_iter().find(|pod| pod.name == name);
                pod.unwrap_or_else(|| panic!("nobody is called {name}")).ip(self.family)
            }
        }
    }

    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        (self.ip(name), POD_PORT).into()
    }

    pub(crate) fn from(&self, name: &str) -> Place<'_> {
        let bed = &self.bed;
        match name {
            "node" => Place::of(&bed.node),
            "client" | "foreign" => Place::of(&bed.client).from_address(self.ip(name)),
            "remote-1" => Place::of(&bed.peer).from_address(self.ip(name)),
            "pod-1" => Place::of(bed.pod_namespace(1)),
            "pod-2" => Place::of(bed.pod_namespace(2)),
            _ => Place::of(bed.pod_namespace(3)),
        }
    }

    /// What becomes of a connection from one to a port of another.
    pub(crate) fn outcome(&self, protocol: Protocol, from: &str, to: &str, port: u16) -> Result<Outcome> {
        self.from(from).connect(protocol, (self.ip(to), port).into())
    }

    /// Checks who reaches whom at the first port, over both protocols: `pod-1 > pod-2` for who does, `pod-1 x pod-2` for
    /// who is refused.
    pub(crate) fn check(&self, expected: &[&str]) -> Result<()> {
        for line in expected {
            for protocol in Protocol::BOTH {
                self.check_port(protocol, line, POD_PORT)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_port(&self, protocol: Protocol, line: &str, port: u16) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[from, sign, to] = words.as_slice() else { anyhow::bail!("odd expectation {line:?}") };
        let outcome = self.outcome(protocol, from, to, port)?;
        let as_expected = match sign {
            ">" => matches!(&outcome, Outcome::Answered { by, .. } if by == to),
            "x" => outcome == Outcome::Refused,
            _ => anyhow::bail!("odd expectation {line:?}"),
        };
        ensure!(as_expected, "{line} at {protocol:?} {port}: {outcome}");
        Ok(())
    }

    pub(crate) fn explain(&self) -> String {
        let listed = |program: &str, args: &[&str]| {
            self.bed.node.output(program, args).unwrap_or_else(|error| format!("{error:#}"))
        };
        format!("{}\n{}", listed(&self.tool().program("-save"), &["-c"]), listed("ipset", &["list"]))
    }
}
