//! Walks on rules that were saved, with sets and virtual servers of some services.

use std::collections::HashMap;
use std::net::IpAddr;

use endpoint_cache::Protocol::Tcp;
use kernel::Error;
use kernel::ipset::{Entry, Kind};
use kernel::ipvs::{Destination, Frontend, Persistence, Server, Target, Traffic};

use super::super::iptables::tests::node::{CLIENT, NODE, Node, POD, STRANGER, packet, places, told};
use super::super::iptables::{Tables, World};
use super::super::model::Walk;
use super::choice::Servers;
use super::{evaluate, is_of_this_mode};

/// The rules of this mode, as `iptables-legacy-save` printed them.
const SAVED: &str = include_str!("saved/ipvs.txt");

const WEB: &str = "10.96.0.10:80";
/// A load balancer's, with source ranges.
const BALANCED: &str = "203.0.113.5:80";
/// Of policy Local, without an endpoint here.
const ELSEWHERE: &str = "203.0.113.6:80";

#[derive(Default)]
struct Known {
    servers: HashMap<Frontend, (Server, Vec<Destination>)>,
    remembered: HashMap<(Frontend, IpAddr), Target>,
}

impl Servers for Known {
    fn find(&mut self, frontend: Frontend) -> Result<Option<(Server, Vec<Destination>)>, Error> {
        Ok(self.servers.get(&frontend).cloned())
    }

    fn remembered(&mut self, frontend: Frontend, client: IpAddr) -> Result<Option<Target>, Error> {
        Ok(self.remembered.get(&(frontend, client)).copied())
    }
}

fn frontend(place: &str) -> Frontend {
    let place: std::net::SocketAddr = place.parse().unwrap();
    Frontend::Address { address: place.ip(), protocol: 6, port: place.port() }
}

fn target(place: &str) -> Target {
    let place: std::net::SocketAddr = place.parse().unwrap();
    Target { address: place.ip(), port: place.port() }
}

fn destination(place: &str, weight: u32) -> Destination {
    let (incoming, outgoing) = (Traffic::default(), Traffic::default());
    Destination {
        target: target(place),
        weight,
        active: 0,
        inactive: 0,
        persistent: 0,
        masquerades: true,
        upper_threshold: 0,
        lower_threshold: 0,
        connections: 0,
        incoming,
        outgoing,
    }
}

impl Known {
    fn serve(&mut self, place: &str, scheduler: &str, destinations: &[(&str, u32)]) {
        let frontend = frontend(place);
        let server = Server { frontend, scheduler: scheduler.parse().unwrap(), persistence: None };
        let destinations = destinations.iter().map(|(place, weight)| destination(place, *weight)).collect();
        self.servers.insert(frontend, (server, destinations));
    }
}

/// A pod of this node and one of another.
const ENDPOINTS: [(&str, u32); 2] = [("10.0.1.1:8080", 1), ("10.0.2.1:8080", 1)];

/// The services above, and a node port.
fn known() -> Known {
    let mut known = Known::default();
    for place in [WEB, BALANCED, "192.168.1.5:30080"] {
        known.serve(place, "rr", &ENDPOINTS);
    }
    known.serve(ELSEWHERE, "rr", &ENDPOINTS[1..]);
    known.serve("10.96.0.11:80", "rr", &[]);
    known
}

/// The node with the addresses on its device and the sets, as this mode fills them.
fn node() -> Node {
    let mut node = Node::default();
    let places = [WEB, "10.96.0.11:80", BALANCED, ELSEWHERE].map(target);
    node.more = places.iter().map(|place| place.address).collect();
    let entry = |place: &str| {
        let Target { address, port } = target(place);
        Entry::IpPort { address, protocol: 6, port }
    };
    let mut set = |name: &str, kind, entries: Vec<Entry>| {
        node.sets.insert(format!("KUBE-{name}"), (kind, entries));
    };
    for name in ["NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH", "NO-LOCAL-INTERNAL", "EXTERNAL-IP"] {
        set(name, Kind::HashIpPort, Vec::new());
    }
    for name in ["NODE-PORT-UDP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-LOCAL-UDP", "HEALTH-CHECK-NODE-PORT"] {
        set(name, Kind::BitmapPort, Vec::new());
    }
    set("NODE-PORT-TCP", Kind::BitmapPort, vec![Entry::Port(30080)]);
    set("CLUSTER-IP", Kind::HashIpPort, vec![entry(WEB), entry("10.96.0.11:80")]);
    set("EXTERNAL-IP-LOCAL", Kind::HashIpPort, vec![entry(ELSEWHERE)]);
    set("NO-LOCAL-EXTERNAL", Kind::HashIpPort, vec![entry(ELSEWHERE)]);
    for name in ["LOAD-BALANCER", "LOAD-BALANCER-FW"] {
        set(name, Kind::HashIpPort, vec![entry(BALANCED)]);
    }
    set("LOAD-BALANCER-LOCAL", Kind::HashIpPort, Vec::new());
    let (address, protocol, port) = (target(BALANCED).address, 6, 80);
    let net = Entry::IpPortNet { address, protocol, port, net: [192, 0, 2, 0].into(), prefix: 24 };
    set("LOAD-BALANCER-SOURCE-CIDR", Kind::HashIpPortNet, vec![net]);
    set("LOAD-BALANCER-SOURCE-IP", Kind::HashIpPortIp, Vec::new());
    let (address, other) = ([10, 0, 1, 1].into(), [10, 0, 1, 1].into());
    set("LOOP-BACK", Kind::HashIpPortIp, vec![Entry::IpPortIp { address, protocol, port: 8080, other }]);
    let addresses = places.iter().map(|place| Entry::Ip(place.address)).collect();
    set("IPVS-IPS", Kind::HashIp, addresses);
    node
}

fn walk_by(known: &mut Known, source: &str, to: &str) -> Walk {
    let (node, tables) = (node(), [Tables::parse(SAVED)]);
    let world = World { around: &node, kept: &node };
    let walk = evaluate(&tables, known, &packet(source, to, Tcp), world).unwrap();
    assert_eq!(walk.unknown, [""; 0]);
    walk
}

fn walk(source: &str, to: &str) -> Walk {
    walk_by(&mut known(), source, to)
}

#[test]
fn virtual_servers_choose_and_rules_masquerade() {
    let found = walk(POD, WEB);
    // A pod that comes back to itself is masqueraded.
    assert_eq!(told(&found), ["0.500 10.0.1.1:8080 masqueraded", "0.500 10.0.2.1:8080"]);
    assert_eq!(places(&found, 1), ["10.96.0.10:80/tcp rr"]);
    assert_eq!(found.ways[1].steps[0].what, "-> 10.0.2.1:8080 weight 1");
    let all = ["0.500 10.0.1.1:8080 masqueraded", "0.500 10.0.2.1:8080 masqueraded"];
    for (source, to) in [(NODE, WEB), (STRANGER, WEB), (CLIENT, BALANCED), (CLIENT, "192.168.1.5:30080")] {
        let found = walk(source, to);
        assert_eq!(told(&found), all, "{source} to {to}");
        assert!(places(&found, 0).contains(&"KUBE-MARK-MASQ"), "{found:?}");
    }
}

#[test]
fn who_may_not_come_is_dropped() {
    let found = walk(STRANGER, BALANCED);
    assert_eq!(told(&found), ["1.000 Dropped"]);
    let expected = ["filter INPUT", "filter KUBE-PROXY-FIREWALL", "filter KUBE-SOURCE-RANGES-FIREWALL"];
    assert_eq!(places(&found, 0)[4..], expected);
    assert_eq!(told(&walk(NODE, BALANCED)), ["1.000 Dropped"]);
    assert_eq!(told(&walk(CLIENT, ELSEWHERE)), ["1.000 Dropped"]);
    assert_eq!(told(&walk(POD, ELSEWHERE)), ["1.000 10.0.2.1:8080"]);
}

#[test]
fn what_nobody_serves_is_refused() {
    // The virtual server has no destination; the address is ours and the port is nobody's; it is not ours at all.
    assert_eq!(told(&walk(POD, "10.96.0.11:80")), ["1.000 Rejected"]);
    assert_eq!(told(&walk(NODE, "10.96.0.11:80")), ["1.000 Rejected"]);
    assert_eq!(told(&walk(POD, "10.96.0.10:81")), ["1.000 Rejected"]);
    assert_eq!(places(&walk(NODE, "10.96.0.10:81"), 0), ["filter INPUT", "filter KUBE-IPVS-FILTER"]);
    assert_eq!(told(&walk(POD, "10.96.0.99:80")), ["1.000 on"]);
}

#[test]
fn weights_count_where_the_scheduler_counts_them() {
    let shares = |scheduler, destinations: &[(&str, u32)]| {
        let mut known = known();
        known.serve(WEB, scheduler, destinations);
        let found = walk_by(&mut known, POD, WEB);
        (told(&found), found.ways[0].steps[0].what.clone())
    };
    let weighted = [("10.0.2.1:8080", 3), ("10.0.2.2:8080", 1), ("10.0.2.3:8080", 0)];
    let (heavy, light) = ("0.750 10.0.2.1:8080".to_owned(), "0.250 10.0.2.2:8080".to_owned());
    assert_eq!(shares("wrr", &weighted).0, [heavy, light]);
    let (ways, what) = shares("sh", &weighted);
    assert_eq!(ways, ["0.500 10.0.2.1:8080", "0.500 10.0.2.2:8080"]);
    assert!(what.contains("weight 3, by the client's address"), "{what}");
    assert_eq!(shares("rr", &weighted).0, ways);
    assert_eq!(shares("fo", &weighted).0, ["1.000 10.0.2.1:8080"]);
}

#[test]
fn clients_come_back_to_where_they_were() {
    let mut known = known();
    let (server, _) = known.servers.get_mut(&frontend(WEB)).unwrap();
    server.persistence = Some(Persistence { seconds: 600, prefix: 32 });
    assert_eq!(walk_by(&mut known, CLIENT, WEB).ways.len(), 2);
    known.remembered.insert((frontend(WEB), CLIENT.parse().unwrap()), target("10.0.2.1:8080"));
    let found = walk_by(&mut known, CLIENT, WEB);
    assert_eq!(told(&found), ["1.000 10.0.2.1:8080 masqueraded"]);
    assert!(found.ways[0].steps.iter().any(|step| step.what.contains("persistence 600 s")), "{found:?}");
    // Not to where nothing is sent any more.
    known.remembered.insert((frontend(WEB), CLIENT.parse().unwrap()), target("10.0.2.9:8080"));
    assert_eq!(walk_by(&mut known, CLIENT, WEB).ways.len(), 2);
}

#[test]
fn an_endpoint_on_the_node_itself_is_not_sent_to() {
    let mut known = known();
    known.serve(WEB, "rr", &[("192.168.1.5:8080", 1)]);
    assert_eq!(told(&walk_by(&mut known, STRANGER, WEB)), ["1.000 192.168.1.5:8080"]);
    assert_eq!(told(&walk_by(&mut known, NODE, WEB)), ["1.000 192.168.1.5:8080 masqueraded"]);
}

#[test]
fn the_mode_is_told_by_its_chains() {
    assert!(is_of_this_mode(&Tables::parse(SAVED)));
    assert!(!is_of_this_mode(&Tables::parse("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]")));
}
