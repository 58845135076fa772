//! Where it is measured: a client and a server that are pods, the server with as many addresses as there are endpoints,
//! and between them the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use benches::contender::{Cluster, PATIENCE};
use serde_json::Value;
use testbed::cluster::{Endpoint, Slice};
use testbed::{Family, Protocol, binary};

use crate::report::Row;

/// That the server listens on; others are taken by the bed's own servers.
pub(crate) const PORT: u16 = 8081;
/// Which pods the client and the server are.
const CLIENT: u8 = 1;
const SERVER: u8 = 2;
/// Connections under way at once.
const CONCURRENCY: &str = "16";

pub(crate) struct Place {
    pub(crate) cluster: Cluster,
    server: Child,
}

/// The address of an endpoint, of up to 65,000.
pub(crate) fn endpoint(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 181, 0, 1)) + number)
}

impl Place {
    pub(crate) fn new(services: u32, endpoints: u32) -> Result<Self> {
        let cluster = Cluster::new(services.saturating_sub(1))?;
        let (bed, pod) = (&cluster.bed, cluster.bed.pod(SERVER));
        let lines = (0..endpoints).map(|number| format!("addr add {}/32 dev lo\n", endpoint(number)));
        let namespace = bed.pod_namespace(SERVER);
        namespace.ip(&lines.collect::<String>())?;
        bed.node.ip(&format!(
            "route add 10.181.0.0/16 dev {} via {} onlink",
            pod.name,
            pod.ip(Family::V4)
        ))?;
        // Flows that have ended make room: there are more of them than a table holds.
        let _ = bed.node.sysctl("net/netfilter/nf_conntrack_tcp_timeout_close", "1");
        let mut command = Command::new(binary()?);
        command.args(["respond", "--listen", &format!("0.0.0.0:{PORT}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let server = namespace.run(|| command.spawn())?.context("cannot run the server")?;
        cluster.server.put(slice(endpoints))?;
        Ok(Self { cluster, server })
    }

    /// Waits until it is answered.
    pub(crate) fn await_answer(&self, target: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.fanout(target, &["-n", "1", "--timeout", "200ms"])?.status.success() {
            ensure!(Instant::now() < deadline, "{target} is not answered");
        }
        Ok(())
    }

    /// What comes of connections for so many seconds.
    pub(crate) fn measure(&self, target: SocketAddr, seconds: u64) -> Result<Row> {
        let output = self.fanout(target, &["-c", CONCURRENCY, "-d", &seconds.to_string(), "-o", "json"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        row(&serde_json::from_slice(&output.stdout)?)
    }

    fn fanout(&self, target: SocketAddr, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(["fanout", &target.to_string(), "--by", "responder"]).args(args);
        let client = self.cluster.bed.pod_namespace(CLIENT);
        client.run(|| command.output())?.context("cannot run pointsman fanout")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn slice(endpoints: u32) -> Value {
    let endpoints = (0..endpoints).map(|number| Endpoint {
        address: endpoint(number).to_string(),
        node: Some(benches::objects::NODE.to_owned()),
        ..Endpoint::default()
    });
    // In place of the one that the cluster begins with.
    Slice::new("probed", Family::V4, endpoints).port("http", Protocol::Tcp, PORT).to_json()
}

fn row(report: &Value) -> Result<Row> {
    let number = |path: &str| {
        let value = report.pointer(path).and_then(Value::as_f64);
        value.with_context(|| format!("the report says nothing of {path}"))
    };
    let endpoints = report["endpoints"].as_array().context("no endpoints")?;
    let count = number("/spread/degreesOfFreedom")? + 1.0;
    let off = |endpoint: &Value| endpoint["share"].as_f64().unwrap_or_default() * count - 1.0;
    let silent = (count - endpoints.len() as f64).max(0.0);
    let squares = endpoints.iter().map(|endpoint| off(endpoint).powi(2)).sum::<f64>() + silent;
    let answered = number("/connections/answered")?;
    Ok(Row {
        answered_endpoints: endpoints.len(),
        connections: answered,
        failed: number("/connections/failed")?,
        rate: number("/connections/answeredPerSecond")?,
        error: (squares / count).sqrt(),
        // What it is on average if every connection goes anywhere.
        error_by_chance: ((count - 1.0) / answered.max(1.0)).sqrt(),
        p50: number("/connectTime/p50")?,
        p99: number("/connectTime/p99")?,
        answer_p99: number("/answerTime/p99")?,
        ..Row::default()
    })
}
