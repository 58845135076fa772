//! Others change what is ours, or have what we want.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cni::network::{Backend, News};
use testbed::suite::Test;

use crate::cluster::{Cluster, Node};
use crate::settings;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("a_device_of_another_make_is_replaced", replaced),
        Test::new("what_flannel_left_is_taken_over", flannel),
        Test::new("routes_of_others_are_left_alone", foreign),
        Test::new("a_route_in_the_way_is_told_of_and_ours_comes_when_it_goes", in_the_way),
        Test::new("our_own_changes_are_no_news", own),
        Test::new("pods_that_come_and_go_are_no_news", pods),
        Test::new("a_device_that_cannot_be_made_is_in_nobody_elses_way", no_device),
        Test::new("a_bridge_of_pods_comes_before_what_leads_nowhere", bridge),
        Test::new("the_uplink_is_heard_of", uplink),
        Test::new("an_uplink_that_was_down_gets_its_routes_back", down),
        Test::new("masquerading_that_others_change_is_repaired", masquerade),
    ];
    for (name, commands) in DAMAGE {
        tests.push(Test::new(format!("repaired_{name}"), move || repaired(commands)));
    }
    tests
}

/// What somebody may do, with `ip` or `bridge`.
const DAMAGE: [(&str, &[&str]); 12] = [
    ("route_removed", &["ip route del 10.244.2.0/24"]),
    ("route6_removed", &["ip -6 route del fd00:244:2::/64"]),
    ("unreachable_removed", &["ip route del unreachable 10.244.1.0/24"]),
    ("neighbour_removed", &["ip neigh del 10.244.2.0 dev flannel.1"]),
    ("neighbour_changed", &["ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1"]),
    ("neighbour_added", &["ip neigh add 10.244.9.0 lladdr 02:00:00:00:00:99 dev flannel.1"]),
    ("forwarding_added", &["bridge fdb add 02:00:00:00:00:99 dst 192.0.2.99 dev flannel.1"]),
    ("route_added", &["ip route add 10.244.9.0/24 via 192.0.2.9 proto 112"]),
    ("address_removed", &["ip addr del 10.244.1.0/32 dev flannel.1"]),
    ("device_down", &["ip link set flannel.1 down"]),
    ("device_changed", &["ip link set flannel.1 mtu 1300"]),
    ("device_removed", &["ip link del flannel.1"]),
];

/// Listens on a thread of its own, for as long as the test runs.
fn listen(node: &mut Node) -> Result<Receiver<(News, Instant)>> {
    let (sender, receiver) = channel();
    let applier = &mut node.applier;
    let mut monitor = node.host.run(|| applier.watch())??;
    thread::spawn(move || {
        while let Ok(news) = monitor.next() {
            if sender.send((news, Instant::now())).is_err() {
                return;
            }
        }
    });
    // What was done until now.
    node.resync()?;
    while receiver.recv_timeout(Duration::from_millis(100)).is_ok() {}
    Ok(receiver)
}

fn await_damage(heard: &Receiver<(News, Instant)>) -> Result<String> {
    loop {
        match heard.recv_timeout(Duration::from_secs(10)).context("nothing was heard")?.0 {
            News::Damage(what) => return Ok(what),
            News::Uplink | News::Learned => {}
        }
    }
}

fn repaired(commands: &[&str]) -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    let heard = listen(node)?;
    let all = |node: &Node| -> Result<Vec<String>> {
        let commands = [
            "ip route",
            "ip -6 route show proto 112",
            "ip addr show dev flannel.1",
            "bridge fdb show dev flannel.1",
        ];
        let entries = ["ip neigh show dev flannel.1 nud permanent"];
        commands
            .iter()
            .chain(&entries)
            .map(|command| {
                let shown = node.shows(command)?;
                // Numbers of devices, lifetimes and addresses that the kernel makes up are of no matter.
                let lines =
                    shown.lines().filter(|line| !line.contains("fe80") && !line.contains("valid_lft"));
                let mut lines: Vec<_> = lines
                    .map(|line| {
                        line.trim_start_matches(|c: char| c.is_ascii_digit() && !line.contains('/'))
                            .to_owned()
                    })
                    .collect();
                lines.sort();
                Ok(lines.join("\n"))
            })
            .collect()
    };
    let before = all(node)?;
    for command in commands {
        node.shows(command)?;
    }
    let start = Instant::now();
    let what = await_damage(&heard)?;
    let report = node.resync()?;
    println!("{what}: repaired in {:?}", start.elapsed());
    ensure!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    ensure!(report.operations > 0 && report.refused.is_empty(), "{what}: {report:?}");
    let after = all(node)?;
    ensure!(before == after, "{before:#?}\nand then\n{after:#?}");
    ensure!(node.resync()?.operations == 0);
    cluster.check_all_reach_all()
}

fn replaced() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let commands = [
        "link add flannel.1 type vxlan id 1 dstport 4789 dev eth0 nolearning",
        "link add flannel.1 type vxlan id 7 dstport 8472 dev eth0 nolearning local 192.0.2.1",
        "link add flannel.1 type vxlan id 1 dstport 8472 dev eth0 local 192.0.2.1",
        "link add flannel.1 type bridge",
    ];
    for command in commands {
        let node = &mut cluster.nodes[0];
        node.host.ip(&format!("link del flannel.1\n{command}"))?;
        node.resync()?;
        let shown = node.shows("ip -d link show flannel.1")?;
        ensure!(
            shown.contains("vxlan id 1") && shown.contains("dstport 8472") && shown.contains("nolearning"),
            "{shown}"
        );
        cluster.check_all_reach_all()?;
    }
    Ok(())
}

/// flannel gives its routes no protocol of their own.
fn flannel() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    node.host.ip("route del 10.244.2.0/24\nroute add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink")?;
    node.host.ip("route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink")?;
    let report = node.resync()?;
    ensure!(report.operations == 3 && report.refused.is_empty(), "{report:?}");
    let routes = node.shows("ip route")?;
    ensure!(routes.contains("10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 112 onlink"), "{routes}");
    ensure!(!routes.contains("10.244.9.0/24"), "{routes}");
    cluster.check_all_reach_all()
}

fn foreign() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    node.host.ip(
        "route add 10.244.9.0/24 via 192.0.2.9 proto static\nroute add 10.244.9.0/25 via 192.0.2.9 proto bird\n\
         route add 10.244.2.0/24 via 192.0.2.9 metric 77\nroute add blackhole 10.244.8.0/24\n\
         route add 10.9.0.0/24 via 192.0.2.9 table 77 proto 112",
    )?;
    let before = node.shows("ip route show table all")?;
    ensure!(node.resync()?.operations == 0);
    cluster.set(0, &settings(Backend::HostGw))?;
    cluster.set(0, &settings(Backend::Vxlan))?;
    let after = cluster.nodes[0].shows("ip route show table all")?;
    for line in before.lines().filter(|line| line.contains("192.0.2.9") || line.contains("blackhole")) {
        ensure!(after.contains(line), "{line} is gone: {after}");
    }
    cluster.check_all_reach_all()
}

fn in_the_way() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    let heard = listen(node)?;
    node.host.ip("route replace 10.244.2.0/24 via 192.0.2.9 proto static")?;
    await_damage(&heard)?;
    let report = node.resync()?;
    ensure!(report.refused.len() == 1 && report.refused[0].1.contains("somebody else"), "{report:?}");
    let routes = node.shows("ip route show 10.244.2.0/24")?;
    ensure!(routes.contains("proto static") && routes.lines().count() == 1, "{routes}");
    while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
    node.host.ip("route del 10.244.2.0/24")?;
    await_damage(&heard)?;
    ensure!(node.resync()?.refused.is_empty());
    cluster.check_all_reach_all()
}

/// The first damage that is heard of is what somebody else does in the end.
fn own() -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    let heard = listen(&mut cluster.nodes[0])?;
    let gone = cluster.delete(2)?;
    cluster.nodes[0].shows("ip route del 10.244.2.0/24")?;
    let what = await_damage(&heard)?;
    ensure!(what.contains("10.244.2.0/24"), "{what}");
    cluster.nodes[0].resync()?;
    while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
    cluster.nodes.push(gone);
    cluster.settle()?;
    cluster.nodes[0].shows("ip neigh del 10.244.3.0 dev flannel.1")?;
    let what = await_damage(&heard)?;
    ensure!(what.contains("neighbour 10.244.3.0"), "{what}");
    cluster.nodes[0].resync()?;
    while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
    // All routes are made anew.
    cluster.set(0, &settings(Backend::HostGw))?;
    cluster.nodes[0].shows("ip route del 10.244.3.0/24")?;
    let what = await_damage(&heard)?;
    ensure!(what.contains("10.244.3.0/24 via 192.0.2.3"), "{what}");
    Ok(())
}

fn pods() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    let heard = listen(node)?;
    node.host.ip("link add pod1 type veth peer name pod1-peer\nlink set pod1 up\nlink set pod1-peer up\n\
         route add 10.244.1.7 dev pod1 proto 112\nroute add fd00:244:1::7 dev pod1 proto 112\n\
         neigh add 10.244.1.7 lladdr 02:00:00:00:00:07 dev pod1\nlink del pod1")?;
    node.shows("ip route del 10.244.2.0/24")?;
    let (news, _) = heard.recv_timeout(Duration::from_secs(10))?;
    ensure!(matches!(&news, News::Damage(what) if what.contains("10.244.2.0/24")), "{news:?}");
    Ok(())
}

fn uplink() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    let heard = listen(node)?;
    for command in
        ["link set eth0 mtu 1400", "addr add 192.0.2.77/24 dev eth0", "addr del 192.0.2.77/24 dev eth0"]
    {
        node.host.ip(command)?;
        let (news, _) = heard.recv_timeout(Duration::from_secs(10)).context(command)?;
        ensure!(news == News::Uplink, "{command}: {news:?}");
        while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
    }
    Ok(())
}

/// The kernel removes the routes by a device that goes down, and says nothing of it.
fn down() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::HostGw))?;
    let node = &mut cluster.nodes[0];
    let heard = listen(node)?;
    node.host.ip("link set eth0 down\nlink set eth0 up\naddr replace 2001:db8::1/64 dev eth0 nodad")?;
    // The other routes are those of whoever runs the underlay.
    node.host.ip("route add default via 192.0.2.254\nroute add default via 2001:db8::fe")?;
    await_damage(&heard)?;
    let report = node.resync()?;
    ensure!(report.operations == 2 && report.refused.is_empty(), "{report:?}");
    cluster.check_all_reach_all()
}

/// Another device has VXLAN's network, under another name.
fn no_device() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::HostGw))?;
    let node = &mut cluster.nodes[0];
    node.host.ip("link add other type vxlan id 1 dstport 8472 dev eth0 nolearning local 192.0.2.1")?;
    node.host.ip("route del 10.244.2.0/24")?;
    // The other node goes over to VXLAN, so that there is to be a device.
    let mut object = cluster.nodes[1].object.clone();
    for (name, value) in [("type", "vxlan"), ("data", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}"#)] {
        object.metadata.annotations.insert(format!("flannel.alpha.coreos.com/backend-{name}"), value.into());
    }
    let node = &mut cluster.nodes[0];
    node.model.apply(cni::network::Update::Node(Box::new(object)));
    let _ = node.model.take_delta();
    let error = node.resync().err().context("there are two devices of one network")?.to_string();
    ensure!(error.contains("VXLAN device flannel.1"), "{error}");
    cluster.check_all_reach_all()?;
    cluster.nodes[0].host.ip("link del other")?;
    ensure!(cluster.nodes[0].resync()?.refused.is_empty());
    cluster.check_all_reach_all()
}

fn bridge() -> Result<()> {
    let mut cluster = Cluster::new(1, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    node.host.ip("link add cni0 type bridge\nlink set cni0 up")?;
    node.host.ip("addr add 10.244.1.1/24 dev cni0\naddr add fd00:244:1::1/64 dev cni0 nodad")?;
    for round in 0..2 {
        for address in ["10.244.1.50", "fd00:244:1::50"] {
            let way = node.shows(&format!("ip route get {address}"))?;
            ensure!(way.contains("dev cni0"), "{round}: {way}");
        }
        // The other way round: ours comes last.
        node.shows("ip route del unreachable 10.244.1.0/24 proto 112")?;
        node.shows("ip -6 route del unreachable fd00:244:1::/64 proto 112")?;
        ensure!(node.resync()?.operations == 2);
    }
    Ok(())
}

fn masquerade() -> Result<()> {
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let node = &mut cluster.nodes[0];
    let applier = &mut node.applier;
    let mut monitor = node.host.run(|| applier.watch_masquerade())??.context("nothing is masqueraded")?;
    let rules = node.shows("nft list ruleset")?;
    for command in [
        "nft delete table ip pointsman-masq",
        "nft flush chain ip6 pointsman-masq postrouting",
        "nft add element ip pointsman-masq nodes { 192.0.2.99 }",
        "nft insert rule ip pointsman-masq postrouting counter",
    ] {
        node.shows(command)?;
        let who = monitor.next_disturbance()?.to_string();
        ensure!(who.contains("nft"), "{who}");
        ensure!(node.resync()?.operations > 0, "{command}");
        let after = node.shows("nft list ruleset")?;
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        ensure!(sorted(&after) == sorted(&rules), "{command}: {after}\nnot\n{rules}");
    }
    Ok(())
}
