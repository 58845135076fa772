//! Nodes come, change and go, and so does the way to reach them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cni::network::{Applier, Backend, Nodes, Settings, Update};
use testbed::suite::Test;
use testbed::{Place, under_traffic};

use crate::cluster::{Cluster, PORT};
use crate::settings;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("a_node_that_comes_is_reached_and_one_that_goes_leaves_nothing", come_and_go),
        Test::new("a_changed_hardware_address_leaves_one_entry", mac),
        Test::new("a_changed_address_leaves_one_entry", address),
        Test::new("a_changed_range_leaves_one_entry", range),
        Test::new("a_range_that_only_grows_shorter_leaves_one_entry", shorter),
        Test::new("what_went_while_nobody_looked_is_swept", swept),
        Test::new("a_restart_takes_over_what_is_there", restart),
        Test::new("the_devices_size_follows_the_uplinks", mtu),
        Test::new("what_is_cleaned_up_is_all_but_pods_routes", cleanup),
    ];
    let ways = [(Backend::Vxlan, Backend::HostGw), (Backend::HostGw, Backend::Vxlan)];
    for (from, to) in ways {
        tests.push(Test::new(format!("no_connection_is_lost_from_{from}_to_{to}"), move || switch(from, to)));
    }
    for backend in [Backend::Vxlan, Backend::HostGw, Backend::Bgp] {
        tests
            .push(Test::new(format!("what_is_right_already_is_left_alone_{backend}"), move || idle(backend)));
    }
    tests
}

fn idle(backend: Backend) -> Result<()> {
    let mut cluster = Cluster::new(2, 1, &settings(backend))?;
    for node in &mut cluster.nodes {
        let report = node.resync()?;
        ensure!(report.operations == 0 && report.refused.is_empty(), "{}: {report:?}", node.name);
    }
    Ok(())
}

fn come_and_go() -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    let both = [("forwarding", 2), ("neighbour", 2), ("route", 2)].into();
    ensure!(cluster.nodes[0].entries()? == both, "{:?}", cluster.nodes[0].entries());
    let mut gone = cluster.delete(2)?;
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    gone.object.metadata.annotations.clear();
    cluster.nodes.push(gone);
    cluster.settle()?;
    cluster.check_all_reach_all()
}

fn mac() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let before = cluster.nodes[0].shows("bridge fdb show dev flannel.1")?;
    let data = r#"{"VNI":1,"VtepMAC":"02:42:42:42:42:42"}"#;
    let name = "flannel.alpha.coreos.com/backend-data";
    cluster.nodes[1].object.metadata.annotations.insert(name.into(), data.into());
    cluster.settle()?;
    let after = cluster.nodes[0].shows("bridge fdb show dev flannel.1")?;
    ensure!(before != after && after.contains("02:42:42:42:42:42 dst 192.0.2.2"), "{after}");
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    // The node has taken it over as well.
    cluster.check_all_reach_all()
}

fn address() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[1];
    node.host.ip("addr del 192.0.2.2/24 dev eth0\naddr add 192.0.2.77/24 dev eth0")?;
    node.host.ip("route replace default via 192.0.2.254")?;
    node.object.status.addresses[0].address = "192.0.2.77".into();
    let object = node.object.clone();
    node.model.apply(Update::Node(Box::new(object)));
    node.look_for_uplinks()?;
    node.apply()?;
    cluster.settle()?;
    let after = cluster.nodes[0].shows("bridge fdb show dev flannel.1")?;
    ensure!(after.contains("dst 192.0.2.77") && !after.contains("dst 192.0.2.2 "), "{after}");
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    cluster.check_all_reach_all()
}

fn range() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    cluster.nodes[1].object.spec.pod_cidrs[0] = "10.244.77.0/24".into();
    cluster.settle()?;
    let routes = cluster.nodes[0].shows("ip route show proto 112")?;
    ensure!(routes.contains("10.244.77.0/24") && !routes.contains("10.244.2.0/24"), "{routes}");
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    let own = cluster.nodes[1].shows("ip -4 addr show dev flannel.1")?;
    ensure!(own.contains("10.244.77.0/32") && own.matches("inet ").count() == 1, "{own}");
    Ok(())
}

fn shorter() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    cluster.nodes[1].object.spec.pod_cidrs[0] = "10.244.2.0/25".into();
    cluster.settle()?;
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    cluster.check_all_reach_all()
}

/// What an applier that has just started makes of a model that knows some nodes.
fn restarted(cluster: &mut Cluster, known: &[usize]) -> Result<usize> {
    let settings = settings(Backend::Vxlan);
    let objects: Vec<_> = known.iter().map(|at| cluster.nodes[*at].object.clone()).collect();
    let node = &mut cluster.nodes[0];
    node.model = Nodes::new(node.name.as_str(), settings.clone());
    node.applier = node.host.run(|| Applier::open(settings.clone()))??;
    for object in objects {
        node.model.apply(Update::Node(Box::new(object)));
    }
    let report = node.start()?;
    ensure!(report.refused.is_empty(), "{report:?}");
    Ok(report.operations)
}

fn swept() -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    // A route, a neighbour and a forwarding entry of each family.
    let operations = restarted(&mut cluster, &[0, 1])?;
    let one = [("forwarding", 1), ("neighbour", 1), ("route", 1)].into();
    ensure!(cluster.nodes[0].entries()? == one, "{:?}", cluster.nodes[0].entries());
    ensure!(operations >= 6, "{operations}");
    cluster.nodes[0].check_reaches(&cluster.nodes[1], false)
}

fn restart() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let before = cluster.nodes[0].shows("ip -d link show flannel.1")?;
    let operations = restarted(&mut cluster, &[0, 1])?;
    ensure!(operations == 0, "{operations} changes to what was right");
    ensure!(cluster.nodes[0].shows("ip -d link show flannel.1")? == before);
    // Even if the Node has forgotten what it announced.
    cluster.nodes[0].object.metadata.annotations.clear();
    ensure!(restarted(&mut cluster, &[0, 1])? == 0);
    Ok(())
}

fn mtu() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    for (uplink, device) in [(1400, 1350), (9000, 8950)] {
        let node = &mut cluster.nodes[0];
        node.host.ip(&format!("link set eth0 mtu {uplink}"))?;
        node.look_for_uplinks()?;
        node.apply()?;
        let shown = node.shows("ip link show flannel.1")?;
        ensure!(shown.contains(&format!("mtu {device}")), "{shown}");
        ensure!(node.entries()?["forwarding"] == 1);
    }
    Ok(())
}

fn cleanup() -> Result<()> {
    let cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &cluster.nodes[0];
    node.host.ip("route add 10.9.0.0/24 via 192.0.2.9 proto static")?;
    for there in [true, false] {
        ensure!(node.host.run(cni::network::cleanup)?? == there);
    }
    let routes = node.shows("ip route")? + &node.shows("ip -6 route")?;
    ensure!(!routes.contains("flannel") && !routes.contains("unreachable 10.244"), "{routes}");
    ensure!(routes.contains("10.244.1.2 dev pod0 proto 112") && routes.contains("10.9.0.0/24"), "{routes}");
    ensure!(!node.shows("ip link")?.contains("flannel"));
    ensure!(!node.shows("nft list ruleset")?.contains("pointsman"));
    Ok(())
}

/// One node after the other, with connections under way and new ones all the time.
fn switch(from: Backend, to: Backend) -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(from))?;
    for node in &mut cluster.nodes {
        // As some distributions have it: what comes by another device than answers would go by is dropped.
        node.host.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
        node.resync()?;
    }
    let (client, server) = (cluster.nodes[0].pod.again()?, cluster.nodes[1].pod_address(false));
    let server6 = cluster.nodes[1].pod_address(true);
    let mut longest = Duration::ZERO;
    let mut open = Place::of(&client).open(SocketAddr::new(server, PORT))?;
    let mut open6 = Place::of(&client).open(SocketAddr::new(server6, PORT))?;
    under_traffic(Place::of(&client), SocketAddr::new(server, PORT), || {
        for at in 0..3 {
            cluster.set(at, &settings(to))?;
            let start = Instant::now();
            open.echo()?;
            open6.echo()?;
            longest = longest.max(start.elapsed());
        }
        Ok(())
    })?;
    println!("{from} to {to}: the longest wait of a connection was {longest:?}");
    ensure!(longest < Duration::from_secs(1), "{longest:?}");
    cluster.check_all_reach_all()?;
    let has_device = cluster.nodes[0].shows("ip link")?.contains("flannel");
    ensure!(has_device == (to == Backend::Vxlan), "the device of what was left");
    let settings = Settings { direct_routing: true, ..settings(Backend::Vxlan) };
    cluster.set(0, &settings).context("to direct routing")?;
    open.echo()
}
