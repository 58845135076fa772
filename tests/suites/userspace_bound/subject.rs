//! What scenarios work on: a node with pods, the objects, and the proxy of an ordinary user.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::{
    ApiServer, Bed, Cluster, Environment, Family, Layout, Objects, Outcome, POD_PORT, Place, Protocol, Proxy,
    User, binary_for, program_as,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const MODE: [&str; 4] = ["--proxy-mode", "userspace", "--hostname-override", "node"];

pub(crate) struct Subject {
    pub(crate) bed: Bed,
    pub(crate) cluster: Cluster,
    pub(crate) args: Vec<String>,
    proxy: Option<Proxy>,
    /// The user's home.
    home: TempDir,
}

impl Subject {
    /// Three pods on the node, and nothing that is served.
    pub(crate) fn prepare() -> Result<Self> {
        let home = tempfile::tempdir()?;
        // Whoever the user is.
        fs::set_permissions(home.path(), Permissions::from_mode(0o777))?;
        let args = MODE.map(str::to_owned).into();
        Ok(Self {
            bed: Bed::new(Layout::Routed, 3, 0)?,
            cluster: Cluster::default(),
            args,
            proxy: None,
            home,
        })
    }

    pub(crate) fn explain(&self) -> String {
        let log = self.proxy.as_ref().map(Proxy::log).unwrap_or_default();
        let sockets = self.bed.node.output("ss", &["-Htuln"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("--- the proxy's log\n{log}\n--- ss -Htuln\n{sockets}")
    }

    fn environment(&self) -> Environment {
        let home = self.home.path().to_string_lossy();
        let folder = |name: &str| format!("{home}/{name}");
        vec![
            ("HOME", home.to_string()),
            ("XDG_RUNTIME_DIR", folder("run")),
            ("XDG_STATE_HOME", folder("state")),
        ]
    }

    /// A file of the user's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Another proxy of the same user, with these flags besides.
    pub(crate) fn another(&self, args: &[&str]) -> Result<Proxy> {
        let args = [&self.args[..], &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()].concat();
        let objects = Objects::Manifests(&self.cluster);
        Proxy::launch_ordinary(&self.bed.node, objects, self.environment(), &args)
    }

    pub(crate) fn proxy(&mut self) -> Result<&mut Proxy> {
        self.proxy.as_mut().context("the proxy is not started")
    }

    /// Starts the proxy, or has it serve the objects as they are now.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if let Some(proxy) = &self.proxy {
            return proxy.serve(&self.cluster);
        }
        let proxy = self.another(&[])?;
        self.settle(proxy)
    }

    /// Starts the proxy with an API server.
    pub(crate) fn start_with_api(&mut self, server: &ApiServer) -> Result<()> {
        let (objects, environment) = (Objects::Api(server), self.environment());
        let proxy = Proxy::launch_ordinary(&self.bed.node, objects, environment, &self.args)?;
        self.settle(proxy)
    }

    fn settle(&mut self, proxy: Proxy) -> Result<()> {
        let (user, capabilities) = self.proxy.insert(proxy).await_syncs(1).and(self.identity())?;
        ensure!(u64::from_str_radix(&capabilities, 16)? == 0, "user {user} has capabilities {capabilities}");
        Ok(())
    }

    fn identity(&self) -> Result<(String, String)> {
        self.proxy.as_ref().context("the proxy is not started")?.identity()
    }

    /// Ends the proxy as a crash would, changes objects meanwhile, and starts it again.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce(&mut Cluster)) -> Result<()> {
        meanwhile(&mut self.cluster);
        let manifest = self.cluster.manifest();
        let proxy = self.proxy.as_mut().context("the proxy is not started")?;
        proxy.kill()?;
        proxy.write("cluster.json", &manifest)?;
        proxy.start_again(&self.bed.node)
    }

    /// A dual-stack Service of this number, with a port named `main`.
    pub(crate) fn put(&mut self, name: &str, number: u8, protocol: Protocol, port: u16, pods: &[u8]) {
        let [v4, v6] = Family::BOTH.map(|family| family.cluster_ip(number));
        self.cluster.put(Service::new(name, v4).dual_stack(v6).port("main", protocol.name(), port));
        for family in Family::BOTH {
            let endpoints = pods.iter().map(|pod| Endpoint::of(self.bed.pod(*pod), family));
            let slice = Slice::new(name, family, endpoints).port("main", protocol, POD_PORT);
            self.cluster.put_slice(slice.named(&format!("{name}-{}", family.name().to_lowercase())));
        }
    }

    /// Removes a Service.
    pub(crate) fn remove(&mut self, name: &str) {
        remove(&mut self.cluster, name);
    }

    /// What `pointsman` says to the user, given these arguments.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Output> {
        let mut command = program_as(User::Ordinary, &binary_for(User::Ordinary)?);
        command.args(args).envs(self.environment());
        self.bed.node.run(|| command.output())?.context("cannot run pointsman")
    }

    /// What `pointsman status` says to programs.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = self.ask(&["status", "--output", "json"])?;
        ensure!(output.status.success(), "no status: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Where each service port is to be reached, by name and protocol.
    pub(crate) fn mapping(&self) -> Result<BTreeMap<String, Vec<SocketAddr>>> {
        let mut mapping: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for target in self.status()?["targets"].as_array().into_iter().flatten() {
            let text = |field: &str| target[field].as_str().unwrap_or_default().to_owned();
            let name = format!("{} {}", text("servicePort"), text("protocol"));
            mapping.entry(name).or_default().push(text("listens").parse()?);
        }
        Ok(mapping)
    }

    /// The local port of a Service of [`Self::put`], which must be the same in both families.
    pub(crate) fn port(&self, name: &str, protocol: Protocol) -> Result<u16> {
        let mapping = self.mapping()?;
        let key = format!("test/{name}:main {}", protocol.name().to_lowercase());
        let places = mapping.get(&key).with_context(|| format!("{key} is not among {mapping:?}"))?;
        let port = places.first().context("it listens nowhere")?.port();
        let expected = Family::BOTH.map(|family| SocketAddr::new(family.loopback(), port));
        ensure!(*places == expected, "{key} is at {places:?}, not {expected:?}");
        Ok(port)
    }

    /// What becomes of so many connections from the node, one after the other.
    pub(crate) fn connect(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        times: usize,
    ) -> Result<BTreeMap<Outcome, usize>> {
        Place::of(&self.bed.node).connect_times(protocol, to, times)
    }

    /// A Service leads to these pods in turn, in both families.
    pub(crate) fn check_leads_to(&self, name: &str, protocol: Protocol, pods: &[u8]) -> Result<()> {
        const TURNS: usize = 3;
        let port = self.port(name, protocol)?;
        let names: Vec<_> = pods.iter().map(|pod| (self.bed.pod(*pod).name.clone(), TURNS)).collect();
        for family in Family::BOTH {
            let outcomes = self.connect(protocol, (family.loopback(), port).into(), TURNS * pods.len())?;
            let answered: Vec<_> = outcomes.iter().map(|(outcome, count)| (by(outcome), *count)).collect();
            ensure!(answered == names, "{name} over {} leads to {outcomes:?}", family.name());
        }
        Ok(())
    }

    /// Connections to a local port are refused, in both families.
    pub(crate) fn check_refused(&self, port: u16) -> Result<()> {
        for family in Family::BOTH {
            let outcome =
                Place::of(&self.bed.node).connect(Protocol::Tcp, (family.loopback(), port).into())?;
            ensure!(outcome == Outcome::Refused, "port {port} over {} leads to {outcome}", family.name());
        }
        Ok(())
    }
}

/// Who answered, or what became of it instead.
fn by(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { by, .. } => by.clone(),
        other => other.to_string(),
    }
}

/// Removes a Service and its slices.
pub(crate) fn remove(cluster: &mut Cluster, name: &str) {
    cluster.delete(name).delete_slice(&format!("{name}-ipv4")).delete_slice(&format!("{name}-ipv6"));
}
