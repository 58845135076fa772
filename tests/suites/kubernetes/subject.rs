//! What scenarios work on: a bed, an API server on its node, and the proxy once it runs.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::api_server::Options;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::suite::Circumstances;
use testbed::{
    ApiServer, Bed, Cluster, Environment, Family, Layout, Mode, Outcome, POD_PORT, Place, Protocol, Proxy,
    Rules, http,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Subject {
    mode: Mode,
    pub(crate) family: Family,
    pub(crate) bed: Bed,
    pub(crate) server: ApiServer,
    /// What the server holds.
    pub(crate) cluster: Cluster,
    pub(crate) args: Vec<String>,
    proxy: Option<Proxy>,
}

impl Subject {
    /// A server that holds nothing, a cluster with nothing but the Node, three pods on the node and one on another.
    pub(crate) fn prepare(circumstances: Circumstances) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 1)?;
        let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
        let Circumstances { mode, family } = circumstances;
        let args = [mode.args, &["--hostname-override", "node", "--cluster-cidr", &cidrs]].concat();
        let args = args.into_iter().map(str::to_owned).collect();
        let server = bed.node.run(|| ApiServer::start(Options::default()))??;
        let mut subject = Self { mode, family, bed, server, cluster: Cluster::default(), args, proxy: None };
        subject.put_node(family.node(), &[]);
        Ok(subject)
    }

    pub(crate) fn explain(&self) -> String {
        let log = self.proxy.as_ref().map(Proxy::log).unwrap_or_default();
        let requests = self.server.requests().join("\n");
        format!("--- the proxy's log\n{log}\n--- requests\n{requests}\n{}", self.rules().explain())
    }

    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules::new(&self.bed.node, self.mode, self.family)
    }

    /// Puts another server in place of the one that holds nothing.
    pub(crate) fn use_server(&mut self, options: Options) -> Result<()> {
        self.server = self.bed.node.run(|| ApiServer::start(options))??;
        Ok(())
    }

    pub(crate) fn proxy(&mut self) -> Result<&mut Proxy> {
        self.proxy.as_mut().context("the proxy is not started")
    }

    /// Runs the proxy until the server's objects are programmed.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.proxy = Some(Proxy::start_with_api(&self.bed.node, &self.server, &self.args)?);
        Ok(())
    }

    /// Runs the proxy and does not wait.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.proxy = Some(Proxy::launch_with_api(&self.bed.node, &self.server, &self.args)?);
        Ok(())
    }

    /// Runs the proxy as in a pod, which is told where the server is by its environment.
    pub(crate) fn launch_in_pod(&mut self) -> Result<()> {
        let address = self.server.address();
        let environment = vec![
            ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
        ];
        self.proxy = Some(Proxy::launch_with_environment(&self.bed.node, environment, &self.args)?);
        Ok(())
    }

    /// Runs the proxy with these arguments in place of the usual kubeconfig, and does not wait.
    pub(crate) fn launch_with(&mut self, source: &[&str], environment: Environment) -> Result<()> {
        let source = source.iter().map(|arg| (*arg).to_owned());
        let args: Vec<_> = source.chain(self.args.iter().cloned()).collect();
        self.proxy = Some(Proxy::launch_with_environment(&self.bed.node, environment, &args)?);
        Ok(())
    }

    /// Runs the proxy in another time, and does not wait.
    pub(crate) fn launch_in_time(&mut self, environment: &Environment) -> Result<()> {
        fs::write("/run/kubeconfig", self.server.kubeconfig())?;
        self.launch_with(&["--kubeconfig", "/run/kubeconfig"], environment.clone())
    }

    /// Runs a proxy that has ended once more, until it has synced.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let proxy = self.proxy.as_mut().context("the proxy is not started")?;
        proxy.start_again(&self.bed.node)
    }

    /// Gives the proxy the server's token of now.
    pub(crate) fn reconfigure(&self) -> Result<()> {
        self.proxy.as_ref().context("the proxy is not started")?.reconfigure(&self.server)
    }

    /// A Service of this name and number, with these pods.
    pub(crate) fn put(&mut self, name: &str, number: u8, pods: &[u8]) {
        self.cluster.put(Service::new(name, self.family.cluster_ip(number)).tcp("http", 80));
        self.put_endpoints(name, pods);
    }

    /// The own Node, with an address of the family and pod ranges.
    pub(crate) fn put_node(&mut self, address: IpAddr, pod_cidrs: &[&str]) {
        self.cluster.put_other("node", testbed::cluster::node(None, &[address], pod_cidrs));
    }

    pub(crate) fn put_endpoints(&mut self, name: &str, pods: &[u8]) {
        let endpoints = pods.iter().map(|pod| Endpoint::of(self.bed.pod(*pod), self.family));
        let slice = Slice::new(name, self.family, endpoints).port("http", Protocol::Tcp, POD_PORT);
        self.cluster.put_slice(slice);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.cluster.delete(name).delete_slice(name);
    }

    /// Lets the server hold the cluster as it is now.
    pub(crate) fn publish(&self) -> Result<()> {
        self.server.hold(&self.cluster.manifest())
    }

    /// Waits until the proxy has programmed whatever has come in.
    pub(crate) fn await_quiet(&self) -> Result<()> {
        self.proxy.as_ref().context("the proxy is not started")?.await_quiet()
    }

    /// Connects to the Service of this number from pod 3.
    pub(crate) fn connect(&self, number: u8) -> Result<Outcome> {
        let to = (self.family.cluster_ip(number), 80).into();
        Place::of(self.bed.pod_namespace(3)).connect(Protocol::Tcp, to)
    }

    /// The Service of this number leads to this pod now.
    pub(crate) fn check_leads_to(&self, number: u8, pod: u8) -> Result<()> {
        let outcome = self.connect(number)?;
        ensure!(self.is_pod(&outcome, pod), "service {number} does not lead to pod {pod}: {outcome}");
        Ok(())
    }

    /// The Service of this number leads to this pod by what an earlier process has left; if that process carried
    /// connections itself, it leads nowhere.
    pub(crate) fn check_left_in_force(&self, number: u8, pod: u8) -> Result<()> {
        if !self.mode.is_userspace() {
            return self.check_leads_to(number, pod);
        }
        let outcome = self.connect(number)?;
        ensure!(outcome == Outcome::Refused, "nobody is there to carry connections yet: {outcome}");
        Ok(())
    }

    /// The Service of this number comes to lead to this pod.
    pub(crate) fn await_leads_to(&self, number: u8, pod: u8) -> Result<()> {
        self.connect_until(number, |outcome| self.is_pod(outcome, pod))
    }

    /// The Service of this number comes to lead nowhere.
    pub(crate) fn await_gone(&self, number: u8) -> Result<()> {
        self.connect_until(number, |outcome| !matches!(outcome, Outcome::Answered { .. }))
    }

    fn is_pod(&self, outcome: &Outcome, pod: u8) -> bool {
        matches!(outcome, Outcome::Answered { by, .. } if *by == self.bed.pod(pod).name)
    }

    /// Connects to the Service of this number from pod 3 until something wanted comes of it.
    pub(crate) fn connect_until(&self, number: u8, wanted: impl Fn(&Outcome) -> bool + Sync) -> Result<()> {
        let to = (self.family.cluster_ip(number), 80).into();
        let from = Place::of(self.bed.pod_namespace(3));
        from.connect_until(Protocol::Tcp, to, PATIENCE, wanted).map(drop)
    }

    /// Waits until the proxy watches all four kinds.
    pub(crate) fn await_watches(&self) -> Result<()> {
        self.server.await_watches(4, PATIENCE)
    }

    /// Waits until the proxy has opened so many further watches after something was done.
    pub(crate) fn await_new_watches(&self, count: u64, doing: impl FnOnce()) -> Result<()> {
        let before = self.server.watches_opened();
        doing();
        self.server.await_watches_opened(before + count, PATIENCE)
    }

    /// What `/healthz` says.
    pub(crate) fn health(&self) -> Result<(u16, Value)> {
        self.health_page("/healthz")
    }

    /// What `/healthz` or `/livez` says.
    pub(crate) fn health_page(&self, path: &str) -> Result<(u16, Value)> {
        let (status, body) = http::get(&self.bed.node, local(10256), path)?;
        Ok((status, serde_json::from_str(&body)?))
    }

    /// The page of metrics in a format.
    pub(crate) fn metrics(&self, accept: &str) -> Result<http::Answer> {
        http::ask_for(&self.bed.node, local(10249), "/metrics", accept)
    }

    /// The mode that the scenario runs in.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The value of a metric, written with its labels; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        http::metric(&self.bed.node, local(10249), name)
    }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}
