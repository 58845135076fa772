//! Where it is measured: a client and a server that are pods, and between them the node, where the subject is.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use benches::process::Process;
use testbed::{Bed, Family, Layout, Namespace};

use crate::{frontend, server};

pub(crate) struct Place {
    pub(crate) bed: Bed,
    server: Child,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 2, 0)?;
        let (client, server) = (bed.pod_namespace(1), bed.pod_namespace(2));
        let endpoints =
            (1..=u8::MAX).map(|number| format!("addr add {}/32 dev lo\n", frontend::endpoint(number)));
        server.ip(&endpoints.collect::<String>())?;
        bed.node.ip("route add 10.181.0.0/24 dev pod-2 via 10.180.0.2 onlink")?;
        for namespace in [client, &bed.node] {
            namespace.sysctl("net/ipv4/ip_local_port_range", "10000 65535")?;
        }
        // Flows that have ended make room: there are more of them than a table holds. (It may be no kernel with conntrack.)
        let _ = bed.node.sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = server.run(|| command.spawn())?.context("cannot run the server")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.trim() == server::READY, "the server does not serve");
        Ok(Self { bed, server: child })
    }

    pub(crate) fn client(&self) -> &Namespace {
        self.bed.pod_namespace(1)
    }

    /// The node's address, which proxies listen on.
    pub(crate) fn node(&self) -> IpAddr {
        Family::V4.node()
    }

    /// Processor time of the client and of the server.
    pub(crate) fn cpu_of_load(&self) -> Result<Duration> {
        Ok(Process::new(self.server.id()).cpu()? + Process::new(std::process::id()).cpu()?)
    }
}
