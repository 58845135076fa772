//! A cluster of several nodes: an underlay, an API server on it, the real `pointsman` on every node, and pods that its CNI
//! plugin attaches, as a container runtime has it.
//!
//! Node number `n` is called `node-n`, is at `192.168.70.n` (or `192.168.71.n`, behind the router) and has `10.244.n.0/24`
//! for its pods; IPv6 alike. Each has folders of its own, so that every node finds its own files where they really are.

mod node;
mod sniffer;
mod steady;
mod underlay;

pub use node::{CONFLIST, Node, pod_cidr};
pub use sniffer::{Frame, Packet, Sniffer};
pub use steady::{while_asking, while_echoing};
pub use underlay::{Lan, Underlay, WORLD_PORT, world};

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Options};
use crate::bed::Family;
use crate::cni::Pod;

/// Where the API server listens.
const API_PORT: u16 = 6443;
/// The namespace that pods are in.
pub const NAMESPACE: &str = "test";
/// By which the kubelet tells a plugin which pod it is.
pub const UID: &str = "K8S_POD_UID";

/// The cluster.
pub struct ClusterBed {
    /// What nodes are joined by.
    pub underlay: Underlay,
    /// What everybody asks.
    pub server: ApiServer,
    families: Vec<Family>,
    nodes: Vec<Node>,
}

impl ClusterBed {
    /// A cluster without nodes, whose pods have addresses of these families.
    ///
    /// # Errors
    /// When the kernel refuses, or programs are missing.
    pub fn new(families: &[Family]) -> Result<Self> {
        let underlay = Underlay::new()?;
        let address: SocketAddr = (Lan::Near.router(Family::V4), API_PORT).into();
        let options = Options { address, ..Options::default() };
        let server = underlay.router.run(|| ApiServer::start(options))??;
        server.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
        Ok(Self { underlay, server, families: families.to_vec(), nodes: Vec::new() })
    }

    /// A cluster of nodes 1 to so many, all on the same network, where nothing runs yet.
    ///
    /// # Errors
    /// As [`ClusterBed::new`].
    pub fn with_nodes(families: &[Family], count: u8) -> Result<Self> {
        let mut bed = Self::new(families)?;
        for number in 1..=count {
            bed.join(number, Lan::Near)?;
        }
        Ok(bed)
    }

    /// The families of pods' addresses.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Plugs a node in, and has the API server know it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&mut self, number: u8, lan: Lan) -> Result<()> {
        let node = Node::new(&self.underlay, number, lan)?;
        self.server.put(node.object(&self.families))?;
        self.nodes.push(node);
        Ok(())
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of this number.
    #[must_use]
    pub fn node(&self, number: u8) -> &Node {
        let found = self.nodes.iter().find(|node| node.number() == number);
        found.unwrap_or_else(|| panic!("there is no node {number}"))
    }

    /// A node, to be changed.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn node_mut(&mut self, number: u8) -> &mut Node {
        let found = self.nodes.iter_mut().find(|node| node.number() == number);
        found.unwrap_or_else(|| panic!("there is no node {number}"))
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Starts the daemon on every node where it does not run, and waits until every node's network is ready.
    ///
    /// # Errors
    /// When a daemon is not built or ends, with its log.
    pub fn start(&mut self, args: &[&str]) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.launch(&self.server, args)?;
        }
        self.nodes.iter().try_for_each(Node::await_ready)
    }

    /// Starts the daemon on a node, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(&mut self, node: u8, args: &[&str]) -> Result<()> {
        let found = self.nodes.iter_mut().find(|other| other.number() == node);
        found.with_context(|| format!("there is no node {node}"))?.launch(&self.server, args)
    }

    /// A pod on a node: attached by what the daemon has written for runtimes, known to the API server, and answering.
    ///
    /// # Errors
    /// When a plugin refuses.
    pub fn pod(&self, node: u8, name: &str) -> Result<Pod> {
        self.pod_with(node, name, &json!({ "app": name }))
    }

    /// The same with other labels.
    ///
    /// # Errors
    /// As [`ClusterBed::pod`].
    pub fn pod_with(&self, node: u8, name: &str, labels: &Value) -> Result<Pod> {
        let uid = format!("{name}-1");
        self.announce(node, name, &uid, labels)?;
        let mut pod = Pod::new(name)?;
        pod.attachment = pod.attachment.pod(NAMESPACE, name).arg(UID, &uid);
        self.attach(node, &mut pod)?;
        pod.answer()?;
        Ok(pod)
    }

    /// Has the API server know a pod that has no addresses yet.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn announce(&self, node: u8, name: &str, uid: &str, labels: &Value) -> Result<()> {
        self.server.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": NAMESPACE, "uid": uid, "labels": labels },
            "spec": { "nodeName": self.node(node).name() }, "status": { "phase": "Pending" },
        }))?;
        Ok(())
    }

    /// Attaches a pod on a node, and tells the API server of its addresses.
    ///
    /// # Errors
    /// When a plugin refuses.
    pub fn attach(&self, node: u8, pod: &mut Pod) -> Result<()> {
        let node = self.node(node);
        pod.result = node.runtime.add(&node.list()?, &pod.attachment)?;
        let addresses = pod.addresses()?;
        ensure!(addresses.len() == self.families.len(), "{} has {addresses:?}", pod.name());
        let first = addresses.first().context("a pod without addresses")?;
        let all: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let status = json!({ "status": { "phase": "Running", "podIP": first, "podIPs": all } });
        self.server.patch("Pod", NAMESPACE, pod.name(), status)
    }

    /// Detaches a pod, and has the API server forget it.
    ///
    /// # Errors
    /// When a plugin refuses.
    pub fn remove(&self, node: u8, pod: &Pod) -> Result<()> {
        let node = self.node(node);
        node.runtime.del(&node.list()?, &pod.attachment)?;
        self.server.delete("Pod", NAMESPACE, pod.name()).map(drop)
    }

    /// What there is to know after a failure.
    #[must_use]
    pub fn explain(&self) -> String {
        self.nodes.iter().map(Node::explain).collect()
    }
}
