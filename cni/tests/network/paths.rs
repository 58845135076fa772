//! Packets arrive, by the way that was chosen.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use cni::network::{Backend, MasqueradeSettings, Masquerader, Settings};
use testbed::suite::Test;
use testbed::{Outcome, Place, Protocol};

use crate::cluster::{Cluster, PORT};
use crate::settings;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("vxlan_carries_packets_of_both_families", vxlan),
        Test::new("host_gw_carries_packets_as_they_are", host_gw),
        Test::new("host_gw_reaches_nodes_beyond_the_link_by_vxlan", far),
        Test::new("direct_routing_uses_vxlan_only_beyond_the_link", direct),
        Test::new("one_family_alone_works_too", one_family),
        Test::new("a_large_packet_fits_the_underlay", large),
        Test::new("what_leaves_the_cluster_has_the_nodes_address", masquerade),
        Test::new("nobody_is_asked_by_vxlan_who_has_an_address", nobody_asked),
        Test::new("iptables_gives_the_nodes_address_as_well", by_iptables),
        Test::new("an_address_that_is_no_pods_is_unreachable", unassigned),
    ]
}

fn vxlan() -> Result<()> {
    let cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    cluster.count(0)?;
    cluster.check_all_reach_all()?;
    let (vxlan, other) = (cluster.counted("vxlan")?, cluster.counted("other")?);
    ensure!(vxlan > 20 && other == 0, "{vxlan} packets of network 1, {other} of others");
    let plain = cluster.counted("plain")? + cluster.counted("plain6")?;
    ensure!(plain == 0, "{plain} packets of pods on the wire");
    Ok(())
}

fn host_gw() -> Result<()> {
    let cluster = Cluster::new(3, 0, &settings(Backend::HostGw))?;
    cluster.count(0)?;
    cluster.check_all_reach_all()?;
    ensure!(cluster.counted("vxlan")? == 0, "something was encapsulated");
    ensure!(cluster.counted("plain")? > 10 && cluster.counted("plain6")? > 10, "nothing went over the wire");
    for node in &cluster.nodes {
        let links = node.shows("ip link")?;
        ensure!(!links.contains("flannel"), "{}: a device that nobody needs: {links}", node.name);
    }
    Ok(())
}

fn far() -> Result<()> {
    let cluster = Cluster::new(2, 1, &settings(Backend::HostGw))?;
    cluster.count(2)?;
    cluster.check_all_reach_all()?;
    ensure!(cluster.counted("vxlan")? > 10 && cluster.counted("plain")? == 0);
    let near = cluster.nodes[0].shows("ip route show 10.244.2.0/24")?;
    ensure!(near.contains("via 192.0.2.2 dev eth0"), "{near}");
    Ok(())
}

fn direct() -> Result<()> {
    let settings = Settings { direct_routing: true, ..settings(Backend::Vxlan) };
    let cluster = Cluster::new(2, 1, &settings)?;
    cluster.count(1)?;
    cluster.nodes[0].check_reaches(&cluster.nodes[1], false)?;
    ensure!(cluster.counted("vxlan")? == 0, "encapsulated on one link");
    cluster.check_all_reach_all()?;
    ensure!(cluster.counted("vxlan")? > 0, "not encapsulated beyond it");
    Ok(())
}

fn one_family() -> Result<()> {
    for v6 in [false, true] {
        let families = if v6 { [endpoint_cache::Family::V6] } else { [endpoint_cache::Family::V4] };
        let settings = Settings { families: families.to_vec(), ..settings(Backend::Vxlan) };
        // The namespaces of the first go with it.
        let names = ["wire", "outside", "a", "pod-a", "b", "pod-b"];
        let cluster = Cluster::new(2, 0, &settings)?;
        cluster.nodes[0].check_reaches(&cluster.nodes[1], v6)?;
        let links = cluster.nodes[0].shows("ip -o link")?;
        ensure!(links.contains("flannel-v6.1") == v6 && links.contains("flannel.1:") != v6, "{links}");
        drop(cluster);
        for name in names {
            std::process::Command::new("ip").args(["netns", "del", name]).status()?;
        }
    }
    Ok(())
}

/// What a pod may send fits the wire with all that is put around it, and what is larger is told of.
fn large() -> Result<()> {
    let cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let [a, b] = &cluster.nodes[..] else { anyhow::bail!("two nodes") };
    for (v6, headers, tunnel) in [(false, 28, 1450_usize), (true, 48, 1430)] {
        let to = SocketAddr::new(b.pod_address(v6), PORT);
        let from = SocketAddr::new(a.pod_address(v6), 0);
        let largest = tunnel - headers;
        a.pod.run(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind(from)?;
            socket.set_read_timeout(Some(std::time::Duration::from_millis(500)))?;
            socket.connect(to)?;
            let passes = |size| socket.send(&vec![b'x'; size]).is_ok() && socket.recv(&mut [0; 64]).is_ok();
            ensure!(passes(largest), "{largest} bytes do not pass");
            // The node says what fits, and the pod's kernel takes it apart from then on.
            testbed::await_that("one byte more passes", || Ok(passes(largest + 1)))
        })??;
    }
    ensure!(a.model.desired().mtu() == Some(1430));
    Ok(())
}

fn seen(cluster: &Cluster, to: SocketAddr) -> Result<IpAddr> {
    match Place::of(&cluster.nodes[0].pod).connect(Protocol::Tcp, to)? {
        Outcome::Answered { seen_as, .. } => Ok(seen_as),
        outcome => anyhow::bail!("to {to}: {outcome}"),
    }
}

fn masquerade() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    for (v6, outside) in [(false, "192.0.2.200"), (true, "2001:db8::200")] {
        let (own, other) = (&cluster.nodes[0], &cluster.nodes[1]);
        let pod = own.pod_address(v6);
        let outside = SocketAddr::new(outside.parse()?, PORT);
        ensure!(seen(&cluster, outside)? == own.address(v6), "a pod is known beyond the cluster");
        ensure!(seen(&cluster, SocketAddr::new(other.pod_address(v6), PORT))? == pod);
        ensure!(seen(&cluster, SocketAddr::new(other.address(v6), PORT))? == pod);
        ensure!(seen(&cluster, SocketAddr::new(own.address(v6), PORT))? == pod);
    }
    let rules = cluster.nodes[0].shows("nft list ruleset")?;
    ensure!(rules.contains("masquerade fully-random") && rules.contains("169.254.0.0/16"), "{rules}");
    // The operator exempts more: the host beyond has a way back for it.
    cluster.outside.ip("route add 10.244.1.0/24 via 192.0.2.1")?;
    let exempt =
        MasqueradeSettings { exempt: vec!["192.0.2.128/25".parse()?], ..MasqueradeSettings::default() };
    cluster.set(0, &Settings { masquerade: Some(exempt), ..settings(Backend::Vxlan) })?;
    let outside = SocketAddr::new("192.0.2.200".parse()?, PORT);
    ensure!(seen(&cluster, outside)? == cluster.nodes[0].pod_address(false));
    // A node's address is exempt for as long as the Node is there.
    let nodes = cluster.nodes[0].shows("nft list set ip pointsman-masq nodes")?;
    ensure!(nodes.contains("192.0.2.2"), "{nodes}");
    cluster.delete(1)?;
    let nodes = cluster.nodes[0].shows("nft list set ip pointsman-masq nodes")?;
    ensure!(!nodes.contains("192.0.2.2"), "{nodes}");
    cluster.set(0, &Settings { masquerade: None, ..settings(Backend::Vxlan) })?;
    let rules = cluster.nodes[0].shows("nft list ruleset")?;
    ensure!(!rules.contains("pointsman-masq"), "{rules}");
    Ok(())
}

/// All that is to be known of neighbours is: what is sent to others goes nowhere, and not to everybody.
fn nobody_asked() -> Result<()> {
    let cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    cluster.count(0)?;
    let node = &cluster.nodes[0];
    node.host.ip("route add 10.244.99.0/24 via 10.244.99.0 dev flannel.1 onlink")?;
    node.host.ip("route add fd00:244:99::/64 via fd00:244:99:: dev flannel-v6.1 onlink")?;
    for address in ["10.244.99.7", "fd00:244:99::7"] {
        let to = SocketAddr::new(address.parse()?, PORT);
        let outcome = Place::of(&node.host).connect_briefly(Protocol::Udp, to)?;
        ensure!(outcome != Outcome::Refused, "{to}: {outcome}");
    }
    ensure!(cluster.counted("vxlan")? == 0, "somebody was asked");
    cluster.nodes[0].check_reaches(&cluster.nodes[1], false)?;
    ensure!(cluster.counted("vxlan")? > 0);
    Ok(())
}

/// On a node that has iptables only.
fn by_iptables() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    node.host.run(cni::network::cleanup)??;
    node.applier.masquerade_by(Masquerader::Iptables);
    let report = node.resync()?;
    ensure!(report.operations > 0 && report.refused.is_empty(), "{report:?}");
    ensure!(node.resync()?.operations == 0, "written again");
    for (v6, outside) in [(false, "192.0.2.200"), (true, "2001:db8::200")] {
        let (own, other) = (&cluster.nodes[0], &cluster.nodes[1]);
        let pod = own.pod_address(v6);
        ensure!(seen(&cluster, SocketAddr::new(outside.parse()?, PORT))? == own.address(v6));
        ensure!(seen(&cluster, SocketAddr::new(other.pod_address(v6), PORT))? == pod);
        ensure!(seen(&cluster, SocketAddr::new(other.address(v6), PORT))? == pod);
        ensure!(seen(&cluster, SocketAddr::new(own.address(v6), PORT))? == pod);
    }
    cluster.delete(1)?;
    let node = &mut cluster.nodes[0];
    let rules = node.shows("iptables-save -t nat")?;
    ensure!(rules.contains("PM-MASQUERADE") && !rules.contains("192.0.2.2/32"), "{rules}");
    node.shows("iptables -t nat -F PM-MASQUERADE")?;
    ensure!(node.resync()?.operations > 0);
    node.host.run(cni::network::cleanup)??;
    let rules = node.shows("iptables-save -t nat")? + &node.shows("ip6tables-save -t nat")?;
    ensure!(!rules.contains("PM-MASQUERADE"), "{rules}");
    Ok(())
}

fn unassigned() -> Result<()> {
    let cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    for address in ["10.244.1.99", "10.244.2.99", "fd00:244:1::99", "fd00:244:2::99"] {
        let to = SocketAddr::new(address.parse()?, PORT);
        for node in &cluster.nodes {
            let outcome = Place::of(&node.pod).connect_briefly(Protocol::Tcp, to)?;
            ensure!(outcome == Outcome::Unreachable, "{}: {to}: {outcome}", node.name);
        }
    }
    Ok(())
}
