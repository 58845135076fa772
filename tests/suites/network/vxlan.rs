//! What is particular to tunnels.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::cluster_bed::Lan;
use testbed::cni::{PORT, Pod};
use testbed::{Family, Outcome, Protocol, Responder, await_that, scenarios};

use crate::scene::{REPAIRED, Scene, must_be_tunnelled, must_need_a_tunnel_only_off_the_link};

scenarios! { Scene:
    the_device_comes_back_with_all_that_is_behind_it,
    entries_that_somebody_removed_are_back,
    a_device_that_does_not_fit_is_replaced,
    packets_are_as_large_as_the_tunnel_carries,
    a_smaller_underlay_makes_smaller_packets,
    nodes_behind_a_router_are_reached,
    nodes_on_the_link_need_no_tunnel_if_so_asked,
    a_node_that_runs_flannel_is_reached,
    a_node_with_another_hardware_address_is_reached_there,
}

fn device(family: Family) -> &'static str {
    match family {
        Family::V4 => "flannel.1",
        Family::V6 => "flannel-v6.1",
    }
}

fn the_device_comes_back_with_all_that_is_behind_it(s: &mut Scene) -> Result<()> {
    s.start(3)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    for family in s.families() {
        s.bed.node(1).namespace.ip(&format!("link del {}", device(*family)))?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[2])?;
        s.bed.node(1).namespace.ip(&format!("link set {} down", device(*family)))?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
    }
    // Others come to it as before.
    s.await_all_reach(&pods)
}

fn entries_that_somebody_removed_are_back(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    for family in s.families() {
        let device = device(*family);
        s.bed.node(1).namespace.output("bridge", &["fdb", "flush", "dev", device])?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
        let neighbours = s.lines(1, &format!("neighbour show dev {device} nud permanent"), "lladdr")?;
        ensure!(neighbours.len() == 1, "{neighbours:?}");
        let address = neighbours[0].split(' ').next().unwrap_or_default().to_owned();
        s.bed.node(1).namespace.output("ip", &["neighbour", "del", &address, "dev", device])?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
        await_that("the neighbour is back", || {
            Ok(s.lines(1, &format!("neighbour show dev {device} nud permanent"), "lladdr")? == neighbours)
        })?;
    }
    Ok(())
}

fn a_device_that_does_not_fit_is_replaced(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    s.bed.join(2, Lan::Near)?;
    s.bed
        .node(1)
        .namespace
        .ip("link add flannel.1 type vxlan id 99 dstport 4789 dev eth0 learning\nlink set flannel.1 up")?;
    s.start_all()?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    let shown = s.bed.node(1).namespace.output("ip", &["-details", "link", "show", "flannel.1"])?;
    ensure!(
        shown.contains("vxlan id 1 ") && shown.contains("nolearning") && shown.contains("dstport 8472"),
        "{shown}"
    );
    Ok(())
}

/// The size of the largest packet that a pod's interface sends.
fn mtu(pod: &Pod) -> Result<u32> {
    let told: serde_json::Value =
        serde_json::from_str(&pod.namespace.output("ip", &["-json", "link", "show", "eth0"])?)?;
    Ok(u32::try_from(told[0]["mtu"].as_u64().context("no mtu")?)?)
}

/// Sends a lot to another pod, which takes segments of the largest size.
fn send_a_lot(from: &Pod, to: &Pod, family: Family) -> Result<()> {
    const BYTES: usize = 1 << 20;
    let address = SocketAddr::new(to.ip(family)?, 7000);
    let listener = to.namespace.run(|| TcpListener::bind(address))??;
    let receiver = thread::spawn(move || -> std::io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)
    });
    let mut stream = from.namespace.run(|| TcpStream::connect(address))??;
    stream.set_write_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(&vec![7; BYTES])?;
    drop(stream);
    let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    ensure!(received == BYTES, "{received} bytes of {BYTES} arrived");
    Ok(())
}

fn packets_are_as_large_as_the_tunnel_carries(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    // What a tunnel adds: Ethernet, VXLAN, UDP, and IP, whose header is longer in IPv6.
    let expected = if s.families().contains(&Family::V6) { 1430 } else { 1450 };
    ensure!(mtu(&pods[0])? == expected, "{}", mtu(&pods[0])?);
    let frames =
        s.heard(|| s.families().iter().try_for_each(|family| send_a_lot(&pods[0], &pods[1], *family)))?;
    for family in s.families() {
        must_be_tunnelled(&frames, &pods[0], &pods[1], *family, true)?;
    }
    Ok(())
}

fn a_smaller_underlay_makes_smaller_packets(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    let before = mtu(&pods[0])?;
    s.bed.underlay.set_mtu(s.bed.nodes(), 1400)?;
    let published = |node: u8| -> Result<bool> {
        let text =
            s.bed.node(node).namespace.run(|| std::fs::read_to_string("/run/pointsman/network.json"))?;
        let text: serde_json::Value = serde_json::from_str(&text?).unwrap_or_default();
        Ok(text["mtu"].as_u64() == Some(u64::from(before) - 100))
    };
    await_that("the new size is published", || Ok(published(1)? && published(2)?))?;
    let late = [s.bed.pod(1, "late-1")?, s.bed.pod(2, "late-2")?];
    for pod in &late {
        ensure!(mtu(pod)? == before - 100, "{}", mtu(pod)?);
    }
    for family in s.families() {
        s.await_reach(&late[0], &late[1])?;
        send_a_lot(&late[0], &late[1], *family)?;
        // Those that were there before are told by the way what goes through.
        send_a_lot(&pods[0], &pods[1], *family).context("pods with larger packets")?;
    }
    Ok(())
}

fn nodes_behind_a_router_are_reached(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    s.bed.join(2, Lan::Far)?;
    s.start_all()?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    let frames = s.heard(|| pods[0].must_reach(&pods[1]))?;
    s.families().iter().try_for_each(|family| must_be_tunnelled(&frames, &pods[0], &pods[1], *family, true))
}

fn nodes_on_the_link_need_no_tunnel_if_so_asked(s: &mut Scene) -> Result<()> {
    s.args.push("--pod-network-direct-routing");
    must_need_a_tunnel_only_off_the_link(s)
}

/// Does on a node by hand what flannel does there, for IPv4.
fn run_flannel(s: &Scene, node: u8, peer: u8, peer_mac: &str) -> Result<()> {
    let (own, other) = (s.bed.node(node), s.bed.node(peer));
    own.namespace.ip(&format!(
        "link add flannel.1 address 02:00:00:00:00:{node:02x} type vxlan id 1 dstport 8472 local {} dev eth0 nolearning\n\
         link set flannel.1 up\naddr add 10.244.{node}.0/32 dev flannel.1\n\
         neighbour add 10.244.{peer}.0 lladdr {peer_mac} dev flannel.1 nud permanent\n\
         route add 10.244.{peer}.0/24 via 10.244.{peer}.0 dev flannel.1 onlink\n",
        own.address(Family::V4),
    ))?;
    let to = other.address(Family::V4).to_string();
    let entry = ["fdb", "add", peer_mac, "dev", "flannel.1", "dst", &to, "self", "permanent"];
    own.namespace.output("bridge", &entry).map(drop)
}

/// A node as flannel announces it.
fn announce_flannel(s: &Scene, node: u8, mac: &str) -> Result<()> {
    let annotations = json!({
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#),
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/public-ip": s.bed.node(node).address(Family::V4),
    });
    s.bed.server.patch(
        "Node",
        "",
        s.bed.node(node).name(),
        json!({ "metadata": { "annotations": annotations } }),
    )
}

/// The hardware address that a node announces.
fn announced(s: &Scene, node: u8) -> Result<String> {
    let object = s.bed.server.object("Node", "", s.bed.node(node).name())?;
    let data = object["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"].clone();
    let data: serde_json::Value = serde_json::from_str(data.as_str().context("nothing is announced")?)?;
    ensure!(data["VNI"] == 1, "{data}");
    data["VtepMAC"].as_str().map(str::to_owned).context("no hardware address")
}

fn a_node_that_runs_flannel_is_reached(s: &mut Scene) -> Result<()> {
    s.start(1)?;
    let pod = s.bed.pod(1, "pod-1")?;
    s.bed.join(2, Lan::Near)?;
    announce_flannel(s, 2, "02:00:00:00:00:02")?;
    run_flannel(s, 2, 1, &announced(s, 1)?)?;
    // A pod of that node, as far as anybody elsewhere sees.
    let address = "10.244.2.7".parse()?;
    s.bed.node(2).namespace.ip("addr add 10.244.2.7/32 dev lo")?;
    let _responder = Responder::new(&s.bed.node(2).namespace, SocketAddr::new(address, PORT), "theirs")?;
    let is_there = |outcome: &Outcome| matches!(outcome, Outcome::Answered { by, .. } if by == "theirs");
    let patience = std::time::Duration::from_secs(10);
    let to = SocketAddr::new(address, PORT);
    let place = pod.place();
    place.connect_until(Protocol::Tcp, to, patience, is_there)?;
    let seen_as = pod.ip(Family::V4)?;
    ensure!(
        place.connect(Protocol::Udp, to)? == Outcome::Answered { by: "theirs".to_owned(), seen_as },
        "not as itself"
    );
    // And the other way round.
    let back = SocketAddr::new(seen_as, PORT);
    let outcome = s.node(2).from_address(address).connect(Protocol::Tcp, back)?;
    ensure!(outcome == Outcome::Answered { by: "pod-1".to_owned(), seen_as: address }, "{outcome}");
    Ok(())
}

fn a_node_with_another_hardware_address_is_reached_there(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    // Its device is made anew while nobody watches, and gets another address.
    s.bed.node_mut(2).kill()?;
    s.bed.node(2).namespace.ip("link del flannel.1")?;
    s.start_all()?;
    s.await_reach(&pods[0], &pods[1])?;
    let after = announced(s, 2)?;
    await_that("there is one entry for each", || {
        let lines = s.bed.node(1).namespace.output("bridge", &["fdb", "show", "dev", "flannel.1"])?;
        let to = s.bed.node(2).address(Family::V4).to_string();
        let entries: Vec<_> = lines.lines().filter(|line| line.contains(&format!("dst {to} "))).collect();
        Ok(entries.len() == 1 && entries[0].starts_with(&after))
    })?;
    s.await_all_reach(&pods)
}
