use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use endpoint_cache::object::{Kind, Node, NodeAddress, ObjectName, ObjectRef};
use endpoint_cache::{Family, Problem};
use ipnet::IpNet;
use kernel::Mac;
use proptest::prelude::*;

use super::*;

fn range(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn uplinks() -> BTreeMap<Family, Uplink> {
    let uplink = |own: &str, on_link: &str| Uplink {
        link: 2,
        name: "eth0".into(),
        mtu: 1500,
        address: address(own),
        on_link: vec![range(on_link)],
    };
    BTreeMap::from([
        (Family::V4, uplink("192.0.2.1", "192.0.2.0/24")),
        (Family::V6, uplink("2001:db8::1", "2001:db8::/64")),
    ])
}

fn settings(backend: Backend) -> Settings {
    let cluster_cidrs = vec![range("10.244.0.0/16"), range("fd00:244::/32")];
    Settings { backend, cluster_cidrs, ..Settings::default() }
}

/// A node with ranges and addresses that end in a number, and the annotations of a backend.
fn node(name: &str, number: u8, backend: Option<&str>) -> Node {
    let mut node = Node::default();
    node.metadata.name = name.into();
    node.metadata.creation_timestamp = Some("2026-01-01T00:00:00Z".into());
    node.spec.pod_cidrs = vec![format!("10.244.{number}.0/24"), format!("fd00:244:{number:x}::/64")];
    for text in [format!("192.0.2.{number}"), format!("2001:db8::{number:x}")] {
        node.status.addresses.push(NodeAddress { address_type: "InternalIP".into(), address: text });
    }
    if let Some(backend) = backend {
        let data = format!("{{\"VNI\":1,\"VtepMAC\":\"{}\"}}", mac(number));
        annotate(&mut node, "backend-type", backend);
        annotate(&mut node, "backend-data", &data);
        annotate(&mut node, "backend-v6-data", &data);
    }
    node
}

fn annotate(node: &mut Node, name: &str, value: &str) {
    node.metadata.annotations.insert(format!("flannel.alpha.coreos.com/{name}"), value.into());
}

/// Node `a` is this one.
fn nodes(settings: Settings, others: Vec<Node>) -> (Nodes, Vec<Problem>) {
    let mut nodes = Nodes::new("a", settings);
    let mut problems = nodes.apply(Update::Uplinks(uplinks()));
    for node in std::iter::once(node("a", 1, None)).chain(others) {
        problems.extend(nodes.apply(Update::Node(Box::new(node))));
    }
    (nodes, problems)
}

fn tunnel(number: u8, family: Family) -> Way {
    let node =
        if family == Family::V4 { format!("192.0.2.{number}") } else { format!("2001:db8::{number:x}") };
    Way::Tunnel { mac: mac(number), node: address(&node) }
}

fn gateway(to: &str) -> Way {
    Way::Gateway { address: address(to), link: 2 }
}

#[test]
fn vxlan_leads_to_every_node_by_its_device() {
    let (nodes, problems) = nodes(settings(Backend::Vxlan), vec![node("b", 2, Some("vxlan"))]);
    assert_eq!(problems, []);
    let desired = nodes.desired();
    let wanted = BTreeMap::from([
        (range("10.244.2.0/24"), tunnel(2, Family::V4)),
        (range("fd00:244:2::/64"), tunnel(2, Family::V6)),
    ]);
    assert_eq!(desired.ways, wanted);
    assert_eq!((desired.is_ready(), desired.mtu()), (true, Some(1430)));
    let device = &desired.tunnels[&Family::V4];
    assert_eq!(
        (device.name.as_str(), device.mtu, device.address),
        ("flannel.1", 1450, address("10.244.1.0"))
    );
    assert_eq!(desired.tunnels[&Family::V6].name, "flannel-v6.1");
    assert_eq!(desired.tunnels[&Family::V6].mtu, 1430);
}

#[test]
fn what_is_announced_is_what_flannel_reads() {
    let (mut nodes, _) = nodes(settings(Backend::Vxlan), vec![]);
    let announcement = nodes.desired().announcement.clone().unwrap();
    let own = announcement.tunnels[&Family::V4];
    assert!(own.is_unicast() && own.0[0] & 2 != 0, "{own}");
    let said = announcement.annotations();
    let name = |name: &str| format!("flannel.alpha.coreos.com/{name}");
    assert_eq!(said[&name("backend-type")].as_deref(), Some("vxlan"));
    assert_eq!(said[&name("backend-data")], Some(format!("{{\"VNI\":1,\"VtepMAC\":\"{own}\"}}")));
    assert_eq!(said[&name("public-ip")].as_deref(), Some("192.0.2.1"));
    assert_eq!(said[&name("public-ipv6")].as_deref(), Some("2001:db8::1"));
    assert_eq!(said[&name("kube-subnet-manager")].as_deref(), Some("true"));
    assert_eq!(said.keys().cloned().collect::<BTreeSet<_>>(), Announcement::names().into_iter().collect());
    // What it said before, as flannel's, stays.
    let _ = nodes.take_delta();
    nodes.apply(Update::Node(Box::new(node("a", 1, Some("vxlan")))));
    assert_eq!(nodes.desired().announcement.as_ref().unwrap().tunnels[&Family::V4], mac(1));
    assert!(nodes.take_delta().announcement);
}

#[test]
fn host_gw_goes_by_the_link_and_by_vxlan_beyond_it() {
    let mut far = node("c", 3, Some("host-gw"));
    far.status.addresses[0].address = "198.51.100.3".into();
    let (nodes, problems) = nodes(settings(Backend::HostGw), vec![node("b", 2, None), far]);
    assert_eq!(problems, []);
    let desired = nodes.desired();
    assert_eq!(desired.ways[&range("10.244.2.0/24")], gateway("192.0.2.2"));
    let through = Way::Tunnel { mac: mac(3), node: address("198.51.100.3") };
    assert_eq!(desired.ways[&range("10.244.3.0/24")], through);
    assert_eq!(desired.tunnels.keys().collect::<Vec<_>>(), [&Family::V4]);
}

#[test]
fn host_gw_has_no_device_where_nobody_needs_one() {
    let (mut nodes, _) = nodes(settings(Backend::HostGw), vec![node("b", 2, Some("host-gw"))]);
    assert!(nodes.desired().tunnels.is_empty());
    assert_eq!(nodes.desired().mtu(), Some(1500));
    let said = nodes.desired().announcement.as_ref().unwrap().annotations();
    assert_eq!(said["flannel.alpha.coreos.com/backend-data"].as_deref(), Some("null"));
    // Somebody who sends by VXLAN still has to be heard.
    nodes.apply(Update::Node(Box::new(node("b", 2, Some("vxlan")))));
    assert_eq!(nodes.desired().tunnels.len(), 2);
    nodes.apply(Update::Deleted(ObjectRef { kind: Kind::Node, name: ObjectName::new("", "b") }));
    assert!(nodes.desired().tunnels.is_empty());
}

#[test]
fn a_node_beyond_the_link_without_a_device_is_told_of() {
    let mut far = node("c", 3, None);
    far.status.addresses[0].address = "198.51.100.3".into();
    let (nodes, problems) = nodes(settings(Backend::HostGw), vec![far]);
    assert!(problems[0].reason.contains("10.244.3.0/24") && problems[0].reason.contains("no VXLAN device"));
    assert!(!nodes.desired().ways.contains_key(&range("10.244.3.0/24")));
    // It cannot announce one before it knows that it is needed: both make theirs.
    assert!(nodes.desired().tunnels.contains_key(&Family::V4));
}

#[test]
fn direct_routing_goes_by_the_link_where_it_can() {
    let mut far = node("c", 3, Some("vxlan"));
    far.status.addresses[0].address = "198.51.100.3".into();
    let direct = Settings { direct_routing: true, ..settings(Backend::Vxlan) };
    let (nodes, _) = nodes(direct, vec![node("b", 2, Some("vxlan")), far]);
    assert_eq!(nodes.desired().ways[&range("10.244.2.0/24")], gateway("192.0.2.2"));
    assert!(matches!(nodes.desired().ways[&range("10.244.3.0/24")], Way::Tunnel { .. }));
}

#[test]
fn a_change_of_backend_changes_ways_and_drops_none() {
    let (mut nodes, _) = nodes(settings(Backend::Vxlan), vec![node("b", 2, Some("vxlan"))]);
    let _ = nodes.take_delta();
    assert_eq!(nodes.set(settings(Backend::HostGw)), []);
    let delta = nodes.take_delta();
    assert!(delta.ways.iter().all(|change| change.before.is_some() && change.after.is_some()), "{delta:?}");
    // The other has not gone over yet.
    assert_eq!((delta.ways.len(), nodes.desired().tunnels.len()), (2, 2));
    nodes.apply(Update::Node(Box::new(node("b", 2, Some("host-gw")))));
    assert!(nodes.desired().tunnels.is_empty());
    assert!(nodes.take_delta().devices);
}

#[test]
fn what_a_node_says_wrong_is_left_out_and_told_of() {
    let mut bad = node("b", 2, Some("vxlan"));
    bad.spec.pod_cidrs =
        ["10.244.2.0/240", "10.9.0.0/24", "10.244.2.0/24", "10.244.7.0/24", "fd00:244:2::/64"]
            .map(Into::into)
            .into();
    bad.status.addresses.push(NodeAddress { address_type: "InternalIP".into(), address: "nonsense".into() });
    annotate(&mut bad, "backend-v6-data", "{\"VNI\":1,\"VtepMAC\":\"ff:ff:ff:ff:ff:ff\"}");
    annotate(&mut bad, "public-ip", "2001:db8::2");
    let (nodes, problems) = nodes(settings(Backend::Vxlan), vec![bad, node("c", 3, Some("vxlan"))]);
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.podCIDRs[0]",
            "spec.podCIDRs[1]",
            "spec.podCIDRs[3]",
            "status.addresses[2].address",
            "metadata.annotations[flannel.alpha.coreos.com/public-ip]",
            "metadata.annotations[flannel.alpha.coreos.com/backend-v6-data]",
            "status.addresses",
        ]
    );
    assert_eq!(nodes.problems(), problems);
    let ways: Vec<_> = nodes.desired().ways.keys().map(ToString::to_string).collect();
    assert_eq!(ways, ["10.244.2.0/24", "10.244.3.0/24", "fd00:244:3::/64"]);
}

#[test]
fn annotations_of_any_kind_are_no_device() {
    for (at, data) in [
        "",
        "null",
        "{}",
        "[]",
        "{\"VtepMAC\":7}",
        "{\"VtepMAC\":\"02:00\"}",
        "{\"VNI\":2,\"VtepMAC\":\"02:00:00:00:00:02\"}",
    ]
    .into_iter()
    .chain([format!("{{\"VtepMAC\":\"{}\"}}", "0".repeat(5000)).as_str(), "[".repeat(600).as_str()])
    .enumerate()
    {
        let mut bad = node("b", 2, Some("vxlan"));
        annotate(&mut bad, "backend-data", data);
        let (nodes, problems) = nodes(settings(Backend::Vxlan), vec![bad]);
        assert!(!nodes.desired().ways.contains_key(&range("10.244.2.0/24")), "{data}");
        assert_eq!(problems.len(), if at < 2 { 1 } else { 2 }, "{data}: {problems:?}");
    }
}

#[test]
fn a_range_that_two_claim_is_the_older_nodes() {
    let mut young = node("b", 2, Some("vxlan"));
    young.metadata.creation_timestamp = Some("2026-02-01T00:00:00Z".into());
    young.spec.pod_cidrs = vec!["10.244.3.128/25".into(), "fd00:244:2::/64".into()];
    let (mut nodes, problems) = nodes(settings(Backend::Vxlan), vec![young, node("c", 3, Some("vxlan"))]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].object.name.to_string(), "b");
    assert!(problems[0].reason.contains("overlaps 10.244.3.0/24 of Node c"), "{problems:?}");
    assert_eq!(nodes.desired().ways[&range("10.244.3.0/24")], tunnel(3, Family::V4));
    assert_eq!(nodes.desired().ways.len(), 3);
    nodes.apply(Update::Deleted(ObjectRef { kind: Kind::Node, name: ObjectName::new("", "c") }));
    assert_eq!(nodes.desired().ways[&range("10.244.3.128/25")], tunnel(2, Family::V4));
    assert_eq!(nodes.problems(), []);
}

#[test]
fn the_own_range_may_be_the_one_that_is_refused() {
    let mut older = node("b", 2, Some("vxlan"));
    older.metadata.creation_timestamp = Some("2025-01-01T00:00:00Z".into());
    older.spec.pod_cidrs = vec!["10.244.1.0/24".into(), "fd00:244:1::/64".into()];
    let (nodes, problems) = nodes(settings(Backend::Vxlan), vec![older]);
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.object.name.to_string() == "a"));
    assert!(!nodes.desired().is_ready());
    assert!(nodes.desired().announcement.is_none());
}

#[test]
fn a_hardware_address_that_two_have_is_the_older_nodes() {
    let mut twin = node("c", 2, Some("vxlan"));
    twin.spec.pod_cidrs = vec!["10.244.3.0/24".into()];
    twin.status.addresses[0].address = "192.0.2.3".into();
    let (nodes, problems) = nodes(settings(Backend::Vxlan), vec![node("b", 2, Some("vxlan")), twin]);
    assert!(problems.iter().any(|problem| problem.reason.contains("that of Node b as well")), "{problems:?}");
    assert!(!nodes.desired().ways.contains_key(&range("10.244.3.0/24")));
    assert_eq!(nodes.desired().ways[&range("10.244.2.0/24")], tunnel(2, Family::V4));
}

#[test]
fn bgp_goes_by_what_is_learned_once_all_is() {
    let (mut nodes, _) =
        nodes(settings(Backend::Bgp), vec![node("b", 2, Some("vxlan")), node("c", 3, Some("bgp"))]);
    let direct = gateway("192.0.2.2");
    assert_eq!(nodes.desired().ways[&range("10.244.2.0/24")], direct);
    let routes = BTreeMap::from([
        (range("10.244.3.0/24"), gateway("192.0.2.254")),
        (range("10.244.64.0/18"), gateway("192.0.2.254")),
        (range("10.244.1.0/25"), gateway("192.0.2.254")),
        (range("0.0.0.0/0"), gateway("192.0.2.254")),
    ]);
    nodes.apply(Update::Learned { routes, settled: true });
    let desired = nodes.desired();
    // Has not gone over yet.
    assert_eq!(desired.ways[&range("10.244.2.0/24")], direct);
    assert_eq!(desired.ways[&range("10.244.3.0/24")], gateway("192.0.2.254"));
    assert_eq!(desired.ways[&range("10.244.64.0/18")], gateway("192.0.2.254"));
    assert!(!desired.ways.contains_key(&range("10.244.1.0/25")), "it is of this node");
    assert!(
        !desired.ways.contains_key(&range("0.0.0.0/0"))
            && !desired.ways.contains_key(&range("fd00:244:3::/64"))
    );
    assert_eq!(desired.bgp.as_ref().unwrap().mesh.keys().map(|name| &**name).collect::<Vec<_>>(), ["b", "c"]);
    let _ = nodes.take_delta();
    nodes.apply(Update::Learned { routes: BTreeMap::new(), settled: true });
    assert_eq!(nodes.take_delta().ways.len(), 2);
}

/// Another may send by the tunnel until it has learned as well.
#[test]
fn bgp_keeps_its_device_until_the_other_has_learned() {
    let mut far = node("b", 2, Some("vxlan"));
    far.status.addresses[0].address = "198.51.100.2".into();
    let (mut nodes, _) = nodes(settings(Backend::Bgp), vec![far.clone()]);
    let said = |nodes: &Nodes| nodes.desired().announcement.clone().unwrap();
    assert!(matches!(nodes.desired().ways[&range("10.244.2.0/24")], Way::Tunnel { .. }));
    assert_eq!((&*said(&nodes).backend, said(&nodes).tunnels.len()), ("vxlan", 2));
    let routes = BTreeMap::from([(range("10.244.2.0/24"), gateway("192.0.2.254"))]);
    nodes.apply(Update::Learned { routes, settled: true });
    assert_eq!(nodes.desired().ways[&range("10.244.2.0/24")], gateway("192.0.2.254"));
    assert_eq!((&*said(&nodes).backend, said(&nodes).tunnels.len()), ("bgp", 2));
    annotate(&mut far, "backend-type", "bgp");
    nodes.apply(Update::Node(Box::new(far)));
    assert!(nodes.desired().tunnels.is_empty() && said(&nodes).tunnels.is_empty());
}

#[test]
fn one_nodes_change_is_one_change_among_five_thousand() {
    let mut nodes =
        Nodes::new("a", Settings { cluster_cidrs: vec![range("10.0.0.0/8")], ..settings(Backend::Vxlan) });
    nodes.apply(Update::Uplinks(uplinks()));
    nodes.apply(Update::Node(Box::new(node("a", 1, None))));
    let one = |number: u16, changed: bool| {
        let [high, low] = number.to_be_bytes();
        let mut node = node(&format!("node-{number}"), 2, Some("vxlan"));
        node.spec.pod_cidrs = vec![format!("10.{high}.{low}.0/24")];
        node.status.addresses[0].address = format!("172.16.{high}.{low}");
        let vtep = Mac([2, 0, 0, u8::from(changed), high, low]);
        annotate(&mut node, "backend-data", &format!("{{\"VtepMAC\":\"{vtep}\"}}"));
        annotate(&mut node, "backend-v6-data", "null");
        Update::Node(Box::new(node))
    };
    let start = std::time::Instant::now();
    for number in 2..5002 {
        assert_eq!(nodes.apply(one(number, false)), []);
    }
    assert_eq!(nodes.take_delta().ways.len(), 5000);
    println!("5000 nodes: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    nodes.apply(one(77, true));
    let delta = nodes.take_delta();
    println!("one node: {:?}", start.elapsed());
    assert_eq!((delta.ways.len(), delta.nodes.len()), (1, 0));
    assert!(!delta.devices && !delta.own && !delta.masquerade && !delta.announcement);
}

fn arbitrary_node() -> impl Strategy<Value = Node> {
    let backend = prop::option::of(prop::sample::select(vec!["vxlan", "host-gw", "bgp", "wireguard"]));
    let ranges = prop::collection::vec(
        prop::sample::select(vec![
            "10.244.1.0/24",
            "10.244.2.0/24",
            "10.244.2.128/25",
            "10.244.2.0/23",
            "10.244.0.0/16",
            "10.9.0.0/24",
            "fd00:244:2::/64",
            "fd00:244::/40",
            "nonsense",
        ]),
        0..3,
    );
    (0..5_u8, 1..5_u8, backend, ranges, prop::option::of(0..3_u8), any::<bool>()).prop_map(
        |(name, number, backend, ranges, age, far)| {
            let mut node = node(["a", "b", "c", "d", "e"][usize::from(name)], number, backend);
            node.metadata.creation_timestamp = age.map(|age| age.to_string());
            if !ranges.is_empty() {
                node.spec.pod_cidrs = ranges.into_iter().map(Into::into).collect();
            }
            if far {
                node.status.addresses[0].address = format!("198.51.100.{number}");
            }
            node
        },
    )
}

fn arbitrary_update() -> impl Strategy<Value = Update> {
    let routes = prop::collection::btree_map(
        prop::sample::select(vec![range("10.244.2.0/24"), range("10.244.2.128/25"), range("10.244.64.0/18")]),
        prop::sample::select(vec![gateway("192.0.2.2"), gateway("192.0.2.254")]),
        0..3,
    );
    let name = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let object = name.prop_map(|name| ObjectRef { kind: Kind::Node, name: ObjectName::new("", name) });
    let links = prop::sample::select(vec![0, 1, 2]).prop_map(|how| {
        let mut uplinks = uplinks();
        match how {
            0 => {}
            1 => drop(uplinks.remove(&Family::V6)),
            _ => uplinks.get_mut(&Family::V4).unwrap().mtu = 9000,
        }
        Update::Uplinks(uplinks)
    });
    prop_oneof![
        8 => arbitrary_node().prop_map(|node| Update::Node(Box::new(node))),
        2 => object.prop_map(Update::Deleted),
        1 => links,
        1 => (routes, any::<bool>()).prop_map(|(routes, settled)| Update::Learned { routes, settled }),
    ]
}

/// What the updates come to, told in another order.
fn anew(settings: &Settings, updates: &[Update]) -> Nodes {
    let (mut known, mut uplinks, mut learned) = (BTreeMap::new(), None, None);
    for update in updates {
        match update {
            Update::Node(node) => drop(known.insert(node.metadata.name.clone(), node.clone())),
            Update::Deleted(object) => drop(known.remove(&*object.name.name)),
            Update::Uplinks(_) => uplinks = Some(update.clone()),
            Update::Learned { .. } => learned = Some(update.clone()),
            Update::ListBegins(_) | Update::ListEnds(_) => {}
        }
    }
    let mut nodes = Nodes::new("a", settings.clone());
    nodes.apply(Update::ListBegins(Kind::Node));
    for node in known.into_values().rev() {
        nodes.apply(Update::Node(node));
    }
    nodes.apply(Update::ListEnds(Kind::Node));
    for update in learned.into_iter().chain(uplinks) {
        nodes.apply(update);
    }
    nodes
}

/// What a delta makes of what was there.
fn advance(ways: &mut BTreeMap<IpNet, Way>, addresses: &mut BTreeSet<IpAddr>, delta: &Delta) {
    for Change { destination, before, after } in &delta.ways {
        assert_eq!(ways.get(destination), before.as_ref(), "{destination}");
        assert_ne!(before, after);
        match after {
            Some(way) => drop(ways.insert(*destination, *way)),
            None => drop(ways.remove(destination)),
        }
    }
    for (address, came) in &delta.nodes {
        let changed = if *came { addresses.insert(*address) } else { addresses.remove(address) };
        assert!(changed, "{address} {came}");
    }
}

proptest! {
    #[test]
    fn step_by_step_is_as_from_scratch_and_deltas_add_up(
        backend in prop::sample::select(vec![Backend::Vxlan, Backend::HostGw, Backend::Bgp]),
        direct_routing in any::<bool>(),
        then in prop::sample::select(vec![Backend::Vxlan, Backend::HostGw, Backend::Bgp]),
        updates in prop::collection::vec((arbitrary_update(), any::<bool>()), 1..24),
        switched in 0..24_usize,
    ) {
        let first = Settings { direct_routing, ..settings(backend) };
        let last = Settings { direct_routing, ..settings(then) };
        let mut nodes = Nodes::new("a", first);
        let (mut ways, mut addresses, mut before) = (BTreeMap::new(), BTreeSet::new(), Desired::default());
        for (at, (update, told)) in updates.iter().enumerate() {
            if at == switched {
                nodes.set(last.clone());
            }
            nodes.apply(update.clone());
            if *told {
                let delta = nodes.take_delta();
                advance(&mut ways, &mut addresses, &delta);
                let now = nodes.desired().clone();
                prop_assert_eq!(&ways, &now.ways);
                prop_assert_eq!(delta.devices, (&before.uplinks, &before.tunnels) != (&now.uplinks, &now.tunnels));
                prop_assert_eq!(delta.own, before.own != now.own);
                prop_assert!(delta.bgp || before.bgp == now.bgp);
                prop_assert_eq!(delta.announcement, before.announcement != now.announcement);
                let nodes_now = now.masquerade.as_ref().map(|found| found.nodes.clone()).unwrap_or_default();
                prop_assert_eq!(&addresses, &nodes_now);
                before = now;
            }
        }
        nodes.set(last.clone());
        let _ = nodes.take_delta();
        prop_assert!(nodes.take_delta().is_empty());
        let all: Vec<_> = updates.into_iter().map(|(update, _)| update).collect();
        let anew = anew(&last, &all);
        prop_assert_eq!(nodes.desired(), anew.desired());
        prop_assert_eq!(nodes.problems(), anew.problems());
    }
}
