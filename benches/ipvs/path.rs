//! What a new connection costs, in turns: through a ClusterIP, to a pod past the same rules, and to a pod by a node where
//! nothing is programmed.
//!
//! ```text
//! client 10.64.0.2 -- node -- server, which answers at every address of the pods' range
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use benches::cluster::{cluster_ip, pod_ip};
use benches::figures::{Figures, median, p99};
use benches::objects::ENDPOINTS;
use fastrand::Rng;
use socket2::{Domain, Socket, Type};
use testbed::Namespace;

use crate::Measured;
use crate::contender::Contender;
use crate::report as row;
use crate::workload::Workload;

/// Connections of each sort, in rounds. After each the servers close what they have.
const ROUNDS: usize = 10;
const ROUND: usize = 60;
const POD_PORT: u16 = 8080;
const SERVICE_PORT: u16 = 80;

/// How long connections took.
#[derive(Default)]
struct Times {
    through: Vec<Duration>,
    past: Vec<Duration>,
    bare: Vec<Duration>,
}

pub(crate) fn measure(of: Contender, services: u32) -> Result<Measured> {
    let (network, bare) = (Network::new("")?, Network::new("bare-")?);
    let desired = Workload::new(services).desired();
    network.node.run(|| -> Result<_> { Ok(of.open()?.resync(&desired).map(drop)?) })??;
    drop(desired);
    let (mut random, mut times) = (Rng::with_seed(7), Times::default());
    // Before the first round counts, neighbours are known and caches filled.
    connect_in_turns(&network, &bare, services, &mut random, &mut Times::default())?;
    for _ in 0..ROUNDS {
        connect_in_turns(&network, &bare, services, &mut random, &mut times)?;
    }
    let mut figures = Figures::default();
    let Times { mut through, mut past, mut bare } = times;
    let (through_median, past_median, bare_median) =
        (median(&mut through), median(&mut past), median(&mut bare));
    let who = of.name();
    figures.add(who, row::CONNECT, through_median);
    figures.add(who, row::PAST, past_median);
    figures.add(who, row::BARE, bare_median);
    figures.add_ratio(who, row::CONNECT_RATIO, through_median, bare_median);
    figures.add_ratio(who, row::PAST_RATIO, past_median, bare_median);
    figures.add(who, row::CONNECT_P99, p99(&mut through));
    figures.add(who, row::BARE_P99, p99(&mut bare));
    Ok(Measured { figures, notes: Vec::new() })
}

fn connect_in_turns(
    network: &Network,
    bare: &Network,
    services: u32,
    random: &mut Rng,
    times: &mut Times,
) -> Result<()> {
    let (sockets, bare_sockets) = (network.sockets(2 * ROUND)?, bare.sockets(ROUND)?);
    for (pair, bare_socket) in sockets.chunks(2).zip(&bare_sockets) {
        let [through, past] = pair else { continue };
        let cluster_ip = cluster_ip(random.u32(0..services));
        let pod = pod_ip(random.u32(0..services * ENDPOINTS));
        times.bare.push(connect(bare_socket, pod, POD_PORT)?);
        times.through.push(connect(through, cluster_ip, SERVICE_PORT)?);
        times.past.push(connect(past, pod, POD_PORT)?);
    }
    drop((sockets, bare_sockets));
    for listener in [&network.listener, &bare.listener] {
        while listener.accept().is_ok() {}
    }
    Ok(())
}

/// Says how long it takes.
fn connect(socket: &Socket, address: Ipv4Addr, port: u16) -> Result<Duration> {
    let to = SocketAddr::from((address, port));
    let started = Instant::now();
    socket.connect(&to.into()).with_context(|| format!("cannot connect to {to}"))?;
    Ok(started.elapsed())
}

struct Network {
    client: Namespace,
    node: Namespace,
    /// Stays as long as somebody listens there.
    _server: Namespace,
    listener: Socket,
}

impl Network {
    fn new(prefix: &str) -> Result<Self> {
        let new = |name: &str| Namespace::new(&format!("{prefix}{name}"));
        let (client, node, server) = (new("client")?, new("node")?, new("server")?);
        node.sysctl("net/ipv4/ip_forward", "1")?;
        node.ip(&format!(
            "link add to-client type veth peer name eth0 netns {}\n\
             link add to-server type veth peer name eth0 netns {}\n\
             addr add 10.64.0.1/24 dev to-client\naddr add 192.168.0.1/24 dev to-server\n\
             link set to-client up\nlink set to-server up",
            client.name(),
            server.name()
        ))?;
        client.ip("addr add 10.64.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.64.0.1")?;
        server.ip("addr add 192.168.0.2/24 dev eth0\nlink set eth0 up\n\
                   route add default via 192.168.0.1\nroute add local 10.128.0.0/9 dev lo")?;
        node.ip("route add 10.128.0.0/9 via 192.168.0.2")?;
        let listener = server.run(listen)??;
        Ok(Self { client, node, _server: server, listener })
    }

    /// Sockets of the client. Connections are reset when they are closed, so that they leave no state behind that waits
    /// for a timer.
    fn sockets(&self, count: usize) -> Result<Vec<Socket>> {
        let socket = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(socket)
        };
        self.client.run(|| (0..count).map(socket).collect())?
    }
}

/// Nobody waits for connections: they are made by the kernel alone, and closed later.
fn listen() -> Result<Socket> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_nonblocking(true)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, POD_PORT)).into())?;
    listener.listen(i32::try_from(4 * ROUND)?)?;
    Ok(listener)
}
