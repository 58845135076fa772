//! A demonstration of a whole cluster: three nodes, pods that our plugin attaches, Services, a policy and a name server, by
//! each way that there is between nodes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::Cell;
use serde_json::json;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::cluster_bed::{Frame, NAMESPACE, Sniffer, while_echoing};
use testbed::cni::{PORT, Pod};
use testbed::{ClusterBed, Family, Outcome, Protocol, dns, isolation};

use super::{step, table};

const WAYS: [&str; 3] = ["vxlan", "host-gw", "bgp"];
const CONNECTIONS: usize = 60;
/// How long news may take through the cluster.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of each node with the others, in both families.
const SESSIONS: usize = 4;
/// The port that names are asked for at.
const DNS_PORT: u16 = 53;
const SERVICE_PORT: u16 = 80;
const NAME: &str = "web.test.svc.cluster.local";

/// What of a cluster is shown.
#[derive(Args, Clone, Default)]
pub(crate) struct ClusterFlags {
    /// Show a whole cluster: three nodes, pods attached by our CNI plugin, a policy, Services and a name server.
    #[arg(long)]
    cluster: bool,
    /// With --cluster, how nodes reach each other's pods [default: vxlan, host-gw and bgp in turn].
    #[arg(long, value_name = "WAY", requires = "cluster", value_parser = WAYS)]
    network: Option<String>,
    /// With --cluster, what Services are served by: nftables, iptables or userspace.
    #[arg(long, value_name = "MODE", requires = "cluster", default_value = "nftables")]
    proxy_mode: String,
}

impl ClusterFlags {
    /// Whether it is what was asked for.
    pub(crate) fn wanted(&self) -> bool {
        self.cluster
    }

    fn ways(&self) -> Vec<&str> {
        self.network.as_deref().map_or(WAYS.to_vec(), |way| vec![way])
    }

    /// As they are given on the command line.
    fn args(&self) -> Vec<OsString> {
        let network = self.network.iter().flat_map(|way| ["--network".to_owned(), way.clone()]);
        let fixed = ["demo", "--cluster", "--proxy-mode", &self.proxy_mode].map(str::to_owned);
        fixed.into_iter().chain(network).map(OsString::from).collect()
    }
}

/// Runs it in namespaces of its own.
pub(crate) fn run(flags: &ClusterFlags) -> Result<()> {
    if isolation::is_isolated() {
        isolation::settle()?;
        return show(flags);
    }
    let started = Instant::now();
    let mut child = isolation::this_program(&flags.args())?.stdin(Stdio::piped()).spawn()?;
    // Dropping its standard input would end it: `wait` does that, so it is taken out first.
    let stdin = child.stdin.take();
    let status = child.wait().context("cannot wait for the demonstration")?;
    drop(stdin);
    ensure!(status.success(), "the demonstration did not go as expected");
    let took = started.elapsed().as_secs_f32();
    println!("Everything was as expected, and nothing is left of it. {took:.1} s.");
    Ok(())
}

const PICTURE: &str = "
   node-1  192.168.70.1     node-2  192.168.70.2     node-3  192.168.70.3
     client 10.244.1.x        web-2  10.244.2.x        web-3  10.244.3.x
     stranger                 dns
        └─────────────────────────┴──────┬──────────────────┘
                                  router 192.168.70.254 ── world
   IPv6 alike: fd00:70::/64, fd00:10:244:N::/64
";

/// The cluster with its pods.
struct Demo {
    bed: ClusterBed,
    mode: String,
    client: Pod,
    stranger: Pod,
    webs: [Pod; 2],
    _names: dns::Server,
}

fn show(flags: &ClusterFlags) -> Result<()> {
    let ways = flags.ways();
    step("Building three nodes on an underlay, with an API server, out of network namespaces");
    println!("{PICTURE}");
    let mut bed = ClusterBed::with_nodes(&Family::BOTH, 3)?;
    let result = prepare(bed_started(&mut bed, ways[0], &flags.proxy_mode), bed, &flags.proxy_mode);
    let mut demo = result?;
    for (number, way) in ways.iter().enumerate() {
        if number > 0 {
            demo.switch(way)?;
        }
        demo.show_way(way)?;
    }
    demo.show_statuses()
}

/// Starts all daemons; their logs tell why if one is not ready.
fn bed_started(bed: &mut ClusterBed, way: &str, mode: &str) -> Result<()> {
    step(&format!("Starting pointsman on each: --pod-network {way} --proxy-mode {mode} --network-policy"));
    let started = Instant::now();
    bed.start(&arguments(way, mode))?;
    println!("  every node's network is ready after {:.2} s\n", started.elapsed().as_secs_f32());
    Ok(())
}

fn arguments<'a>(way: &'a str, mode: &'a str) -> Vec<&'a str> {
    let cidrs = "10.244.0.0/16,fd00:10:244::/48";
    vec!["--pod-network", way, "--proxy-mode", mode, "--network-policy", "--cluster-cidr", cidrs]
}

fn prepare(started: Result<()>, bed: ClusterBed, mode: &str) -> Result<Demo> {
    started?;
    step("Attaching pods by pointsman-cni, as a container runtime does");
    let mut rows = table(&["node", "pod", "addresses", "ADD took"]);
    let mut add = |node: u8, name: &str, app: &str| -> Result<Pod> {
        let start = Instant::now();
        let pod = bed.pod_with(node, name, &json!({ "app": app }))?;
        let took = format!("{:.1} ms", start.elapsed().as_secs_f32() * 1e3);
        let addresses: Vec<_> = pod.addresses()?.iter().map(IpAddr::to_string).collect();
        rows.add_row([format!("node-{node}"), name.to_owned(), addresses.join(" "), took]);
        Ok(pod)
    };
    let client = add(1, "client", "client")?;
    let stranger = add(1, "stranger", "stranger")?;
    let webs = [add(2, "web-2", "web")?, add(3, "web-3", "web")?];
    let server = add(2, "dns", "kube-dns")?;
    println!("{rows}\n");
    let addresses: Vec<_> = server.addresses()?.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect();
    let names = dns::Server::start(&server.namespace, &addresses)?;
    names.put(NAME, &Family::BOTH.map(|family| family.cluster_ip(80)));
    let demo = Demo { bed, mode: mode.to_owned(), client, stranger, webs, _names: names };
    demo.put_services(&server)?;
    demo.put_policy()?;
    Ok(demo)
}

impl Demo {
    /// Services `web` and `kube-dns`, in both families.
    fn put_services(&self, server: &Pod) -> Result<()> {
        let cluster_ips = |number| Family::BOTH.map(|family| family.cluster_ip(number));
        let [web, web6] = cluster_ips(80);
        let [name, name6] = cluster_ips(10);
        let web = Service::new("web", web).dual_stack(web6).tcp("http", SERVICE_PORT);
        let names = Service::new("kube-dns", name).dual_stack(name6);
        let names = names.udp("dns", DNS_PORT).tcp("dns-tcp", DNS_PORT);
        self.bed.server.put(web.to_json())?;
        self.bed.server.put(names.to_json())?;
        for family in Family::BOTH {
            let of = |pods: &[&Pod]| -> Result<Vec<Endpoint>> {
                let endpoint =
                    |pod: &&Pod| Ok(Endpoint { address: pod.ip(family)?.to_string(), ..Endpoint::default() });
                pods.iter().map(endpoint).collect()
            };
            let web = Slice::new("web", family, of(&[&self.webs[0], &self.webs[1]])?);
            let web = web.named(&format!("web-{}", family.name().to_lowercase()));
            let names = Slice::new("kube-dns", family, of(&[server])?);
            let names = names.named(&format!("kube-dns-{}", family.name().to_lowercase()));
            let names = names.port("dns", Protocol::Udp, DNS_PORT).port("dns-tcp", Protocol::Tcp, DNS_PORT);
            self.bed.server.put(web.port("http", Protocol::Tcp, PORT).to_json())?;
            self.bed.server.put(names.to_json())?;
        }
        Ok(())
    }

    /// Only clients may reach `web`.
    fn put_policy(&self) -> Result<()> {
        step("A NetworkPolicy: only pods labelled app=client may reach those labelled app=web");
        println!();
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "web", "namespace": NAMESPACE },
            "spec": {
                "podSelector": { "matchLabels": { "app": "web" } },
                "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "client" } } }] }],
            },
        });
        self.bed.server.put(policy).map(drop)
    }

    /// Goes over to another way, one node after the other, while a connection lasts.
    fn switch(&mut self, way: &str) -> Result<()> {
        step(&format!("Going over to {way}, one node after the other, while client talks to web-2"));
        let to = SocketAddr::new(self.webs[0].ip(Family::V4)?, PORT);
        let mut conversation = self.client.place().open(to)?;
        let mode = self.mode.clone();
        let bed = &mut self.bed;
        let gap = while_echoing(&mut conversation, || {
            for node in 1..=3 {
                bed.node_mut(node).terminate()?;
                bed.launch(node, &arguments(way, &mode))?;
                bed.node(node).daemon()?.await_line_with("pod network programmed")?;
            }
            Ok(())
        })?;
        println!(
            "  the same connection is still there; its longest pause was {:.0} ms\n",
            gap.as_secs_f32() * 1e3
        );
        Ok(())
    }

    fn show_way(&self, way: &str) -> Result<()> {
        step(&format!("{way}: client asks kube-dns for {NAME}, and goes there"));
        self.await_reach(way)?;
        let sniffer = Sniffer::on(&self.bed.underlay.router)?;
        let mut rows = table(&["", "asked over UDP and TCP", "led to", "web-2", "web-3", "pods see"]);
        for family in Family::BOTH {
            let address = self.resolve(family)?;
            let outcomes = self.client.place().connect_times(
                Protocol::Tcp,
                (address, SERVICE_PORT).into(),
                CONNECTIONS,
            )?;
            let counted: BTreeMap<String, usize> =
                outcomes.iter().map(|(outcome, count)| (outcome.to_string(), *count)).collect();
            let own = self.client.ip(family)?;
            let count = |pod: &Pod| {
                let answered = Outcome::Answered { by: pod.name().to_owned(), seen_as: own };
                outcomes.get(&answered).copied().unwrap_or_default()
            };
            let counts = [count(&self.webs[0]), count(&self.webs[1])];
            ensure!(
                counts.iter().all(|count| *count > 0),
                "not every pod was chosen as it should: {counted:?}"
            );
            ensure!(counts.iter().sum::<usize>() == CONNECTIONS, "connections failed: {counted:?}");
            rows.add_row([
                Cell::new(family.name()),
                Cell::new(format!("{}:{DNS_PORT}", family.cluster_ip(10))),
                Cell::new(format!("{address}:{SERVICE_PORT}")),
                Cell::new(counts[0]),
                Cell::new(counts[1]),
                Cell::new(own),
            ]);
        }
        println!("{rows}");
        self.show_underlay(way, &sniffer.stop())?;
        self.show_stranger()?;
        self.show_routes()
    }

    /// The first answers come when all nodes have learnt of each other.
    fn await_reach(&self, way: &str) -> Result<()> {
        for family in Family::BOTH {
            for pod in &self.webs {
                let to = SocketAddr::new(pod.ip(family)?, PORT);
                let is_there = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. });
                let waited = self.client.place().connect_until(Protocol::Tcp, to, PATIENCE, is_there);
                waited.with_context(|| format!("by {way}\n{}", self.bed.explain()))?;
            }
        }
        if way == "bgp" {
            testbed::await_that("BIRDs speak to each other", || {
                let told = self.bed.node(1).ask(&["status"])?;
                let sessions = told.lines().find(|line| line.starts_with("BGP")).unwrap_or_default();
                Ok(sessions.matches("Established").count() == SESSIONS)
            })?;
        }
        // Who changes the way may be a moment later than who is reached.
        testbed::await_that("packets go this way", || {
            let sniffer = Sniffer::on(&self.bed.underlay.router)?;
            self.client.must_reach(&self.webs[0])?;
            let (bare, tunnelled) = self.counted(&sniffer.stop())?;
            Ok(if way == "vxlan" { bare == 0 && tunnelled > 0 } else { bare > 0 && tunnelled == 0 })
        })
    }

    /// The Service's address, as the name server tells it over UDP and TCP alike.
    fn resolve(&self, family: Family) -> Result<IpAddr> {
        let server = SocketAddr::new(family.cluster_ip(10), DNS_PORT);
        let ask = |protocol| dns::resolve(&self.client.namespace, server, protocol, NAME, family);
        let (over_udp, over_tcp) = (ask(Protocol::Udp)?, ask(Protocol::Tcp)?);
        ensure!(over_udp == over_tcp && over_udp.len() == 1, "{over_udp:?} and {over_tcp:?}");
        over_udp.first().copied().context("no address")
    }

    /// Frames that carry what client and web pods say: bare, and in a tunnel of network 1.
    fn counted(&self, frames: &[Frame]) -> Result<(usize, usize)> {
        let mut count = (0, 0);
        for family in Family::BOTH {
            let client = self.client.ip(family)?;
            for pod in &self.webs {
                let other = pod.ip(family)?;
                count.0 += frames.iter().filter(|frame| frame.is_between(client, other)).count();
                let carries =
                    |(number, frame): &(u32, Frame)| *number == 1 && frame.is_between(client, other);
                count.1 += frames.iter().filter_map(Frame::tunnelled).filter(carries).count();
            }
        }
        Ok(count)
    }

    fn show_underlay(&self, way: &str, frames: &[Frame]) -> Result<()> {
        let (bare, tunnelled) = self.counted(frames)?;
        println!("  on the underlay: {tunnelled} frames in VXLAN, VNI 1, UDP 8472; {bare} bare");
        let expected = if way == "vxlan" { bare == 0 && tunnelled > 0 } else { bare > 0 && tunnelled == 0 };
        ensure!(expected, "packets do not go by {way}");
        Ok(())
    }

    fn show_stranger(&self) -> Result<()> {
        let to = SocketAddr::new(Family::V4.cluster_ip(80), SERVICE_PORT);
        let outcome = self.stranger.place().connect_briefly(Protocol::Tcp, to)?;
        ensure!(!matches!(outcome, Outcome::Answered { .. }), "a stranger got through: {outcome}");
        println!("  stranger, whom the policy does not name, connects to {to}: {outcome}\n");
        Ok(())
    }

    fn show_routes(&self) -> Result<()> {
        println!("  our routes on node-1 (ip route show proto 112):");
        let node = &self.bed.node(1).namespace;
        for flag in ["-4", "-6"] {
            let routes = node.output("ip", &[flag, "route", "show", "proto", "112"])?;
            routes.lines().for_each(|line| println!("    {}", line.trim()));
        }
        println!();
        Ok(())
    }

    fn show_statuses(&self) -> Result<()> {
        step("Asking on node-1: pointsman status");
        println!("{}", self.bed.node(1).ask(&["status"])?);
        Ok(())
    }
}
