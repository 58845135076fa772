//! What packets cost on each way between two pods.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use benches::figures::{Figures, median};
use testbed::cni::{List, Pod, Runtime, node};
use testbed::{ClusterBed, Family, Namespace};

use crate::attach::{ours, reference};
use crate::report::{
    BARE, BRIDGE, HOST_GW, MEGABYTE, MEGABYTE_RATIO, REFERENCE, ROUND_TRIP, ROUND_TRIP_RATIO, ROUTED, VXLAN,
};

const MEGABYTES: u32 = 2_000;
const CHUNK: usize = 1 << 20;
/// What is not measured yet.
const WARM_UP: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(5);

/// One byte there and back, and one megabyte there.
#[derive(Clone, Copy)]
struct Cost {
    round_trip: Duration,
    megabyte: Duration,
}

pub(crate) fn measure(datagrams: usize) -> Result<Figures> {
    let bare = bare(datagrams)?;
    let on_one_node = |plugin| on_one_node(plugin, datagrams);
    let costs = [
        (BARE, bare),
        (ROUTED, on_one_node(ours("routed", "10.95.0.0/16"))?),
        (BRIDGE, on_one_node(ours("bridge", "10.96.0.0/16"))?),
        (REFERENCE, on_one_node(reference())?),
        (HOST_GW, between_nodes("host-gw", datagrams)?),
        (VXLAN, between_nodes("vxlan", datagrams)?),
    ];
    let mut figures = Figures::default();
    for (name, cost) in costs {
        figures.add(name, ROUND_TRIP, cost.round_trip);
        figures.add_ratio(name, ROUND_TRIP_RATIO, cost.round_trip, bare.round_trip);
        figures.add(name, MEGABYTE, cost.megabyte);
        figures.add_ratio(name, MEGABYTE_RATIO, cost.megabyte, bare.megabyte);
    }
    Ok(figures)
}

fn bare(datagrams: usize) -> Result<Cost> {
    let [one, two] = ["one", "two"].map(Namespace::new);
    let (one, two) = (one?, two?);
    one.ip(
        "link add eth0 type veth peer name eth0 netns two\nlink set eth0 up\naddr add 10.94.0.1/24 dev eth0",
    )?;
    two.ip("link set eth0 up\naddr add 10.94.0.2/24 dev eth0")?;
    let cost = between(&one, &two, [10, 94, 0, 2].into(), datagrams);
    go(&["one", "two"])?;
    cost
}

fn on_one_node(plugin: serde_json::Value, datagrams: usize) -> Result<Cost> {
    let node = node("node")?;
    let (runtime, list) = (Runtime::on(&node)?, List::new("pods", "1.0.0").then(plugin));
    let attach = |name: &str| -> Result<Pod> {
        let mut pod = Pod::new(name)?;
        pod.result = runtime.add(&list, &pod.attachment)?;
        Ok(pod)
    };
    let (one, two) = (attach("pod-1")?, attach("pod-2")?);
    let cost = between(&one.namespace, &two.namespace, two.ip(Family::V4)?, datagrams);
    go(&["node", "pod-1", "pod-2"])?;
    std::fs::remove_dir_all("/run/kept")?;
    cost
}

fn between_nodes(way: &str, datagrams: usize) -> Result<Cost> {
    let mut bed = ClusterBed::with_nodes(&[Family::V4], 2)?;
    bed.start(&["--pod-network", way, "--cluster-cidr", "10.244.0.0/16", "--proxy-mode", "nftables"])?;
    let (one, two) = (bed.pod(1, "pod-1")?, bed.pod(2, "pod-2")?);
    let address = SocketAddr::new(two.ip(Family::V4)?, testbed::cni::PORT);
    let is_there = |outcome: &testbed::Outcome| matches!(outcome, testbed::Outcome::Answered { .. });
    one.place().connect_until(testbed::Protocol::Tcp, address, Duration::from_secs(20), is_there)?;
    let cost = between(&one.namespace, &two.namespace, address.ip(), datagrams);
    drop(bed);
    go(&["router", "node-1", "node-2", "pod-1", "pod-2"])?;
    std::fs::remove_dir_all("/run/kept")?;
    cost
}

/// Makes names free for what is measured next.
fn go(names: &[&str]) -> Result<()> {
    for name in names {
        std::process::Command::new("ip").args(["netns", "delete", name]).status()?;
    }
    Ok(())
}

fn between(from: &Namespace, to: &Namespace, address: IpAddr, datagrams: usize) -> Result<Cost> {
    Ok(Cost { round_trip: round_trip(from, to, address, datagrams)?, megabyte: megabyte(from, to, address)? })
}

fn round_trip(from: &Namespace, to: &Namespace, address: IpAddr, datagrams: usize) -> Result<Duration> {
    let server = to.run(|| UdpSocket::bind((address, 0)))??;
    let client = from.run(|| UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)))??;
    client.connect(server.local_addr()?)?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let total = datagrams + WARM_UP as usize;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        for _ in 0..total {
            let (_, from) = server.recv_from(&mut [0; 8])?;
            server.send_to(&[0], from)?;
        }
        Ok(())
    });
    let mut times = Vec::with_capacity(total);
    for _ in 0..total {
        let start = Instant::now();
        client.send(&[0])?;
        client.recv(&mut [0; 8]).context("a datagram was lost")?;
        times.push(start.elapsed());
    }
    echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(median(&mut times[WARM_UP as usize..]))
}

fn megabyte(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Duration> {
    let listener = to.run(|| TcpListener::bind((address, 0)))??;
    let at = listener.local_addr()?;
    let mut stream = from.run(|| TcpStream::connect(at))??;
    let (mut received, _) = listener.accept()?;
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let chunk = vec![0; CHUNK];
        (0..MEGABYTES + WARM_UP).try_for_each(|_| stream.write_all(&chunk))
    });
    let mut chunk = vec![0; CHUNK];
    for _ in 0..WARM_UP {
        received.read_exact(&mut chunk)?;
    }
    let start = Instant::now();
    for _ in 0..MEGABYTES {
        received.read_exact(&mut chunk)?;
    }
    let took = start.elapsed();
    sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(took / MEGABYTES)
}
