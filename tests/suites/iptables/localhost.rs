//! Node ports on loopback, which kube-proxy serves in this mode and over IPv4 only, and who else could use the way.

use anyhow::{Result, ensure};
use testbed::subject::Seen::Masqueraded;
use testbed::{Family, Outcome, Protocol, Responder, Subject};

testbed::scenarios![
    Subject:
    node_ports_answer_on_loopback_over_ipv4,
    node_ports_do_not_answer_on_loopback_if_told_so,
    node_ports_on_given_addresses_answer_there_only,
    node_ports_answer_on_every_address_by_default,
    nobody_outside_reaches_loopback,
];

const NODE_PORT: u16 = 30080;

fn serve_node_port(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(NODE_PORT);
    s.serve(web, &["pod-1", "remote-1"])?;
    s.reaches(s.client(), (s.family().node(), NODE_PORT), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn node_ports_answer_on_loopback_over_ipv4(s: &mut Subject) -> Result<()> {
    serve_node_port(s)?;
    let to = (s.family().loopback(), NODE_PORT);
    match s.family() {
        Family::V4 => s.reaches(s.node(), to, &["pod-1", "remote-1"], Masqueraded).map(drop),
        Family::V6 => s.refused(s.node(), to),
    }
}

fn node_ports_do_not_answer_on_loopback_if_told_so(s: &mut Subject) -> Result<()> {
    s.args(&["--iptables-localhost-nodeports=false"]);
    serve_node_port(s)?;
    s.refused(s.node(), (s.family().loopback(), NODE_PORT))?;
    let routed =
        s.bed.node.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet"))??;
    ensure!(routed.trim() == "0", "the kernel was told to route loopback addresses");
    Ok(())
}

fn node_ports_on_given_addresses_answer_there_only(s: &mut Subject) -> Result<()> {
    s.args(&["--nodeport-addresses", "192.168.0.0/24,fd00:192:168::/64"]);
    serve_node_port(s)?;
    s.refused(s.node(), (s.family().loopback(), NODE_PORT))?;
    s.refused(s.client(), (s.family().second_node_address(), NODE_PORT))
}

fn node_ports_answer_on_every_address_by_default(s: &mut Subject) -> Result<()> {
    let node = testbed::cluster::node(None, &Family::BOTH.map(Family::node), &[]);
    s.cluster.put_other("node", node);
    serve_node_port(s)?;
    let second = (s.family().second_node_address(), NODE_PORT);
    s.reaches(s.client(), second, &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

/// Somebody on the same network may send packets for 127.0.0.1 to the node's hardware address.
fn nobody_outside_reaches_loopback(s: &mut Subject) -> Result<()> {
    let port = 7777;
    let to = (Family::V4.loopback(), port).into();
    let _local = Responder::new(&s.bed.node, to, "local")?;
    let client = &s.bed.client;
    // The client's own loopback must be out of the way.
    client.output("ip", &["route", "flush", "table", "local", "dev", "lo"])?;
    client.output("ip", &["address", "flush", "dev", "lo"])?;
    client.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    let (node, source) = (Family::V4.node(), Family::V4.client());
    client.ip(&format!("route add 127.0.0.0/8 via {node} dev eth0 src {source}\n"))?;
    let attempt = |s: &Subject| s.client().place.from_address(source).connect_briefly(Protocol::Tcp, to);
    s.bed.node.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    let reached = attempt(s)?;
    ensure!(matches!(reached, Outcome::Answered { .. }), "the attack itself does not work: {reached}");
    let web = s.web().node_port(NODE_PORT);
    s.serve(web, &["pod-1"])?;
    let reached = attempt(s)?;
    ensure!(reached == Outcome::Silence, "an outsider at 127.0.0.1: {reached}");
    Ok(())
}
