//! What cannot be used is named, and costs only itself.

use endpoint_cache::Update;
use endpoint_cache::object::Kind;
use serde_json::{Value, json};

use crate::objects::*;

/// Fields complained about, in order.
fn fields(updates: impl IntoIterator<Item = Update>) -> Vec<String> {
    Proxy::new().tell_all(updates).problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn bad_addresses_of_a_service() {
    let external =
        ["127.0.0.1", "0.0.0.0", "169.254.0.1", "224.0.0.1", "bad", "198.51.100.1", "::1", "fe80::1"];
    let ingress = json!([{"ip": "192.0.2.300"}, {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Odd"}]);
    let update = load_balancer(
        "web",
        json!({
            "spec": {"externalIPs": external, "loadBalancerSourceRanges": ["10.0.0.0/33", "10.0.0.0/8"]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }),
    );
    let expected = [
        "spec.externalIPs[0]",
        "spec.externalIPs[1]",
        "spec.externalIPs[2]",
        "spec.externalIPs[3]",
        "spec.externalIPs[4]",
        "spec.externalIPs[6]",
        "spec.externalIPs[7]",
        "spec.loadBalancerSourceRanges[0]",
        "status.loadBalancer.ingress[0].ip",
        "status.loadBalancer.ingress[2].ipMode",
    ];
    assert_eq!(fields([update.clone()]), expected);
    let web = Proxy::with([update]).v4("ns/web");
    assert_eq!(web.external_ips.len(), 1);
    assert_eq!(web.load_balancer_ips.len(), 1);
    assert_eq!(web.source_ranges.as_ref().map(|ranges| ranges.len()), Some(1));
}

#[test]
fn sloppy_addresses_are_fine() {
    let spec =
        json!({"clusterIP": "010.000.000.001", "externalIPs": ["192.000.002.001"], "ports": [{"port": 80}]});
    let endpoints = json!([ready("010.001.000.001", "them")]);
    let updates = [service("web", spec), slice("web-1", "web", endpoints)];
    assert!(fields(updates.clone()).is_empty());
    let web = Proxy::with(updates).v4("ns/web");
    assert_eq!(web.cluster_ip.to_string(), "10.0.0.1");
    assert_eq!(texts(&web.cluster_endpoints), ["10.1.0.1:8080"]);
}

#[test]
fn a_cluster_ip_that_is_none() {
    for ip in ["bad", "127.0.0.1", "0.0.0.0"] {
        assert_eq!(fields([plain("web", ip)]), ["spec.clusterIP"], "{ip}");
        assert!(Proxy::with([plain("web", ip)]).served().is_empty());
    }
}

#[test]
fn bad_ports_of_a_service() {
    let ports = json!([
        {"name": "zero", "port": 0}, {"name": "big", "port": 65536}, {"name": "less", "port": -1},
        {"name": "odd", "port": 80, "protocol": "ICMP"}, {"name": "node", "port": 80, "nodePort": 70000},
        {"name": "twice", "port": 81}, {"name": "twice", "port": 82},
    ]);
    let update = service("web", json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ports": ports}));
    let expected = [
        "spec.ports[0].port",
        "spec.ports[1].port",
        "spec.ports[2].port",
        "spec.ports[3].protocol",
        "spec.ports[4].nodePort",
        "spec.ports[6]",
    ];
    assert_eq!(fields([update.clone()]), expected);
    let proxy = Proxy::with([update]);
    assert_eq!(proxy.served(), ["ns/web:node IPv4/tcp", "ns/web:twice IPv4/tcp"]);
    assert_eq!((proxy.v4("ns/web:node").node_port, proxy.v4("ns/web:twice").port), (None, 81));
}

#[test]
fn unknown_words_of_a_service() {
    let spec = json!({"type": "Odd", "clusterIP": "10.0.0.1", "sessionAffinity": "Odd",
        "externalTrafficPolicy": "Odd", "internalTrafficPolicy": "Odd", "ports": [{"port": 80}]});
    let expected =
        ["spec.externalTrafficPolicy", "spec.internalTrafficPolicy", "spec.sessionAffinity", "spec.type"];
    assert_eq!(fields([service("web", spec.clone())]), expected);
    assert_eq!(Proxy::with([service("web", spec)]).served(), ["ns/web IPv4/tcp"]);
}

#[test]
fn a_proxy_protocol_that_cannot_be() {
    let problems = |value: &str, protocol: &str| {
        let metadata = json!({"name": "web", "namespace": "ns",
            "annotations": {"pointsman.dev/proxy-protocol": value}});
        let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": protocol}]});
        let mut proxy = Proxy::new();
        let problems = proxy.tell(service_object(json!({"metadata": metadata, "spec": spec}))).problems;
        assert_eq!(proxy.v4("ns/web").proxy_protocol, problems.is_empty());
        problems
    };
    assert!(problems("v2", "TCP").is_empty());
    for (value, protocol) in [("v1", "TCP"), ("", "TCP"), ("V2", "TCP"), ("v2", "UDP"), ("v2", "SCTP")] {
        let [problem] = &problems(value, protocol)[..] else { panic!("{value:?} for {protocol}") };
        assert_eq!(problem.object.to_string(), "Service ns/web");
        assert_eq!(problem.field, "metadata.annotations[pointsman.dev/proxy-protocol]");
        assert!(problem.reason.contains("\"v2\""), "{}", problem.reason);
    }
    assert!(problems(&"x".repeat(1 << 20), "TCP")[0].reason.len() < 200);
}

#[test]
fn bad_endpoints_and_ports_of_a_slice() {
    let endpoints: Vec<Value> =
        ["127.0.0.1", "bad", "fd01::1", "10.1.0.1", "169.254.0.1"].map(|a| ready(a, "us")).into();
    let ports = json!([{"name": "", "port": 8080}, {"name": "b", "port": 0}, {"name": "c", "port": 1, "protocol": "X"}]);
    let update = slice_with("web-1", "web", json!({"endpoints": endpoints, "ports": ports}));
    let expected = [0, 1, 2, 4].map(|index| format!("endpoints[{index}].addresses[0]"));
    let mut found = fields([update.clone()]);
    assert_eq!(found.split_off(4), ["ports[1].port", "ports[2].protocol"]);
    assert_eq!(found, expected);
    let proxy = Proxy::with([plain("web", "10.0.0.1"), update]);
    assert_eq!(texts(&proxy.v4("ns/web").cluster_endpoints), ["10.1.0.1:8080"]);
}

#[test]
fn bad_ranges() {
    assert_eq!(fields([service_cidr("c", json!(["10.0.0.0/16", "bad"]))]), ["spec.cidrs[1]"]);
    let bad_node = json!({"metadata": {"name": NODE}, "spec": {"podCIDRs": ["bad"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "bad"}]}});
    assert_eq!(fields([node(bad_node)]), ["spec.podCIDRs[0]", "status.addresses[0].address"]);
}

#[test]
fn a_problem_is_reported_once_until_it_changes() {
    let with = |external: &str| {
        service("web", json!({"clusterIP": "10.0.0.1", "externalIPs": [external], "ports": [{"port": 80}]}))
    };
    let mut proxy = Proxy::new();
    let mut told = |update: Update| proxy.tell(update).problems.len();
    assert_eq!(told(with("bad")), 1);
    assert_eq!(told(with("bad")), 0);
    assert_eq!(told(with("worse")), 1);
    assert_eq!(told(with("192.0.2.1")), 0);
    assert_eq!(told(with("bad")), 1);
    assert_eq!(told(deleted(Kind::Service, "web")), 0);
    assert_eq!(told(with("bad")), 1, "it is another Service of that name");
}

#[test]
fn a_thousand_problems_are_not_a_thousand_lines() {
    let endpoints: Vec<_> = (0..1000).map(|_| ready("bad", "them")).collect();
    let problems = Proxy::new().tell(slice("web-1", "web", json!(endpoints))).problems;
    assert_eq!(problems.len(), 17);
    assert!(problems.iter().any(|problem| problem.reason.contains("984 more")));
}

#[test]
fn absurd_texts_are_neither_trusted_nor_repeated() {
    let long = "x".repeat(1 << 20);
    let spec = json!({"type": long, "clusterIP": long, "externalIPs": [long], "ports": [{"name": long, "port": 80}]});
    let hints = json!({"forZones": [{"name": long}], "forNodes": [{"name": long}]});
    let endpoints =
        json!([{"addresses": [long], "nodeName": long}, {"addresses": ["10.1.0.1"], "hints": hints}]);
    let problems = Proxy::new().tell_all([service(&long, spec), slice(&long, &long, endpoints)]).problems;
    assert_eq!(problems.len(), 4);
    assert!(problems.iter().all(|problem| problem.reason.len() < 200));
}
