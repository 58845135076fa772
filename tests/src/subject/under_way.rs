//! Connections and flows of all kinds that go on while something else is done.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::{Subject, Who, answerer};
use crate::POD_PORT;
use crate::cluster::{Service, Slice};
use crate::place::{Conversation, Flow, Protocol};

/// Who serves; those on this node, under policy Local.
const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];
const HERE: [&str; 2] = ["pod-1", "pod-2"];

/// Attempts until every pod has been met: one of three is missed once in 10^10 runs.
const TRIES: usize = 60;

/// Connections and flows, each with what to call it.
#[derive(Debug)]
pub struct UnderWay {
    conversations: Vec<(String, Conversation)>,
    /// With who answers.
    flows: Vec<(String, Flow, String)>,
}

impl Subject {
    /// The Services for all that goes on: `web`, and `local` with policy Local, over TCP and UDP, each with node ports.
    pub fn put_for_under_way(&mut self) {
        let family = self.family();
        let local = Service::new("local", family.cluster_ip(11)).tcp("http", 80).node_port(30090);
        let dns = Service::new("dns", family.cluster_ip(53)).udp("dns", 53).node_port(30053);
        let local_dns = Service::new("local-dns", family.cluster_ip(54)).udp("dns", 53).node_port(30054);
        let services = [self.web().node_port(30080), local.external_local(), dns, local_dns.external_local()];
        let over_tcp = ["web", "local"].map(|name| self.slice(name, &PODS));
        let over_udp = ["dns", "local-dns"].map(|name| {
            let slice = Slice::new(name, family, PODS.map(|pod| self.endpoint(pod)));
            slice.port("dns", Protocol::Udp, POD_PORT)
        });
        for service in services {
            self.cluster.put(service);
        }
        for slice in over_tcp.into_iter().chain(over_udp) {
            self.cluster.put_slice(slice);
        }
    }

    /// Begins conversations with every pod, and flows: from a pod, from an endpoint (which may be its own), from the node
    /// itself, and from outside, masqueraded and not.
    ///
    /// # Errors
    /// When something is not answered.
    pub fn begin(&self) -> Result<UnderWay> {
        let family = self.family();
        let at = |address, port| SocketAddr::new(address, port);
        let (web, dns) = (self.web_address(), at(family.cluster_ip(53), 53));
        let mut under_way = UnderWay { conversations: Vec::new(), flows: Vec::new() };
        under_way.converse("a pod", self.pod(3), web, &PODS)?;
        under_way.converse("an endpoint", self.pod(1), web, &PODS)?;
        under_way.converse("the node", self.node(), web, &PODS)?;
        under_way.converse("outside", self.client(), at(family.node(), 30080), &PODS)?;
        under_way.converse("outside, as itself", self.client(), at(family.node(), 30090), &HERE)?;
        under_way.flow("a pod", self.pod(3), dns)?;
        under_way.flow("the node", self.node(), dns)?;
        under_way.flow("outside", self.client(), at(family.node(), 30053))?;
        under_way.flow("outside, as itself", self.client(), at(family.node(), 30054))?;
        Ok(under_way)
    }
}

impl UnderWay {
    fn converse(&mut self, whence: &str, who: Who<'_>, to: SocketAddr, pods: &[&str]) -> Result<()> {
        let mut missing: BTreeSet<&str> = pods.iter().copied().collect();
        for _ in 0..TRIES {
            if missing.is_empty() {
                return Ok(());
            }
            let conversation = who.place.open(to)?;
            if missing.remove(conversation.with.as_str()) {
                self.conversations.push((format!("from {whence} to {to}"), conversation));
            }
        }
        anyhow::bail!("from {whence}, {to} never led to {missing:?}")
    }

    fn flow(&mut self, whence: &str, who: Who<'_>, to: SocketAddr) -> Result<()> {
        let flow = who.place.flow(to)?;
        let with = answerer(&flow.ask()?)?.to_owned();
        self.flows.push((format!("from {whence} to {to}"), flow, with));
        Ok(())
    }

    /// Something is said and answered in each, by who answered before.
    ///
    /// # Errors
    /// When it is not.
    pub fn go_on(&mut self) -> Result<()> {
        for (name, conversation) in &mut self.conversations {
            conversation.echo().with_context(|| format!("over TCP {name}"))?;
        }
        for (name, flow, with) in &self.flows {
            let outcome = flow.ask().with_context(|| format!("over UDP {name}"))?;
            let by = answerer(&outcome).with_context(|| format!("over UDP {name}"))?;
            ensure!(by == with, "over UDP {name}: {with} answered, and now {by}");
        }
        Ok(())
    }

    /// All go on without pause while something else is done, and after.
    ///
    /// # Errors
    /// When that fails, or one of them breaks.
    pub fn go_on_while(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let result = thread::scope(|scope| {
            let going_on = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.go_on()?;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let result = meanwhile();
            done.store(true, Ordering::Relaxed);
            let went_on = going_on.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(went_on)
        });
        result?;
        ensure!(rounds.load(Ordering::Relaxed) > 0, "nothing was said meanwhile");
        self.go_on()
    }
}
