//! Frontends that several Services claim.

use endpoint_cache::object::Kind;
use endpoint_cache::{Delta, Family, Update};
use serde_json::{Value, json};

use crate::objects::*;

/// A Service that was created in some year.
fn from_year(name: &str, year: u16, spec: Value) -> Update {
    let created = format!("{year}-01-01T00:00:00Z");
    service_object(
        json!({"metadata": {"name": name, "namespace": "ns", "creationTimestamp": created}, "spec": spec}),
    )
}

fn at(name: &str, year: u16, cluster_ip: &str, external: &[&str]) -> Update {
    from_year(name, year, json!({"clusterIP": cluster_ip, "externalIPs": external, "ports": [{"port": 80}]}))
}

fn node_port(name: &str, year: u16, cluster_ip: &str, protocol: &str) -> Update {
    let ports = json!([{"port": 80, "nodePort": 30080, "protocol": protocol}]);
    from_year(name, year, json!({"type": "NodePort", "clusterIP": cluster_ip, "ports": ports}))
}

fn external(proxy: &Proxy, name: &str) -> usize {
    proxy.v4(name).external_ips.len()
}

fn refusals(delta: &Delta) -> Vec<String> {
    delta.problems.iter().map(|p| format!("{} {}", p.object, p.field)).collect()
}

#[test]
fn the_older_service_keeps_its_external_ip() {
    let old = at("zz-old", 2020, "10.0.0.1", &["192.0.2.1"]);
    let young = at("aa-young", 2021, "10.0.0.2", &["192.0.2.1", "192.0.2.2"]);
    for order in [[old.clone(), young.clone()], [young, old]] {
        let mut proxy = Proxy::new();
        let delta = proxy.tell_all(order);
        assert_eq!((external(&proxy, "ns/zz-old"), external(&proxy, "ns/aa-young")), (1, 1));
        assert_eq!(refusals(&delta), ["Service ns/aa-young spec.externalIPs"]);
        assert!(
            delta.problems[0].reason.contains("192.0.2.1 port 80/tcp belongs to"),
            "{:?}",
            delta.problems
        );
    }
}

#[test]
fn the_lesser_name_decides_between_twins_and_no_age_is_oldest() {
    let mut proxy =
        Proxy::with([at("b", 2020, "10.0.0.2", &["192.0.2.1"]), at("a", 2020, "10.0.0.1", &["192.0.2.1"])]);
    assert_eq!((external(&proxy, "ns/a"), external(&proxy, "ns/b")), (1, 0));
    let spec = json!({"clusterIP": "10.0.0.3", "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]});
    proxy.tell(service("z-ageless", spec));
    assert_eq!((external(&proxy, "ns/a"), external(&proxy, "ns/z-ageless")), (0, 1));
}

#[test]
fn the_next_in_line_takes_over_in_the_same_delta() {
    let mut proxy = Proxy::with([
        at("first", 2020, "10.0.0.1", &["192.0.2.1"]),
        at("second", 2021, "10.0.0.2", &["192.0.2.1"]),
        at("third", 2022, "10.0.0.3", &["192.0.2.1"]),
    ]);
    let delta = proxy.tell(deleted(Kind::Service, "first"));
    assert_eq!((external(&proxy, "ns/second"), external(&proxy, "ns/third")), (1, 0));
    assert_eq!(delta.changes.len(), 2, "the removed one and its heir");
    assert!(delta.changes[0].after.is_none());
    assert_eq!(
        refusals(&delta),
        ["Service ns/third spec.externalIPs"],
        "it is another one that refuses it now"
    );
}

#[test]
fn node_ports_are_claimed_for_each_protocol() {
    let proxy = Proxy::with([
        node_port("old", 2020, "10.0.0.1", "TCP"),
        node_port("young", 2021, "10.0.0.2", "TCP"),
        node_port("udp", 2022, "10.0.0.3", "UDP"),
    ]);
    let ports = ["ns/old", "ns/young", "ns/udp"].map(|name| proxy.v4(name).node_port);
    assert_eq!(ports, [Some(30080), None, Some(30080)]);
}

#[test]
fn without_its_cluster_ip_a_port_is_absent_and_claims_nothing() {
    let mut proxy = Proxy::with([
        at("holder", 2020, "10.0.0.1", &[]),
        at("loser", 2021, "10.0.0.1", &["192.0.2.1"]),
        at("third", 2022, "10.0.0.3", &["192.0.2.1"]),
    ]);
    assert_eq!(proxy.served(), ["ns/holder IPv4/tcp", "ns/third IPv4/tcp"]);
    assert_eq!(external(&proxy, "ns/third"), 1, "what the absent one claims is free");
    proxy.tell(deleted(Kind::Service, "holder"));
    assert_eq!((external(&proxy, "ns/loser"), external(&proxy, "ns/third")), (1, 0));
}

#[test]
fn moving_away_from_a_lost_cluster_ip_brings_the_other_claims_back() {
    let mut proxy = Proxy::with([
        at("holder", 2020, "10.0.0.1", &[]),
        at("mover", 2021, "10.0.0.1", &["192.0.2.1"]),
        at("young", 2022, "10.0.0.3", &["192.0.2.1"]),
    ]);
    proxy.tell(at("mover", 2021, "10.0.0.2", &["192.0.2.1"]));
    assert_eq!((external(&proxy, "ns/mover"), external(&proxy, "ns/young")), (1, 0));
}

#[test]
fn an_external_ip_may_be_anothers_cluster_ip() {
    let mut proxy =
        Proxy::with([at("old", 2020, "10.0.0.1", &["10.0.0.2"]), at("young", 2021, "10.0.0.2", &[])]);
    assert_eq!(proxy.served(), ["ns/old IPv4/tcp"]);
    proxy.tell(at("old", 2020, "10.0.0.1", &[]));
    assert_eq!(proxy.served(), ["ns/old IPv4/tcp", "ns/young IPv4/tcp"]);
}

#[test]
fn ports_of_one_service_contend_as_well() {
    let ports = json!([{"name": "b", "port": 80}, {"name": "a", "port": 80}]);
    let mut proxy = Proxy::new();
    let delta = proxy.tell(service("web", json!({"clusterIP": "10.0.0.1", "ports": ports})));
    assert_eq!(proxy.served(), ["ns/web:a IPv4/tcp"]);
    assert_eq!(refusals(&delta), ["Service ns/web spec.clusterIPs"]);
}

#[test]
fn each_family_is_on_its_own() {
    let dual = |name: &str, year, v4: &str, v6: &str| {
        let spec = json!({"clusterIP": v4, "clusterIPs": [v4, v6], "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]});
        from_year(name, year, spec)
    };
    let proxy =
        Proxy::with([dual("old", 2020, "10.0.0.1", "fd00::1"), dual("young", 2021, "10.0.0.2", "fd00::1")]);
    assert!(proxy.find("ns/young", Family::V4).is_some());
    assert!(proxy.find("ns/young", Family::V6).is_none());
}

#[test]
fn a_refusal_is_reported_once() {
    let mut proxy = Proxy::with([
        at("old", 2020, "10.0.0.1", &["192.0.2.1"]),
        at("young", 2021, "10.0.0.2", &["192.0.2.1"]),
    ]);
    assert!(proxy.cache.take_delta().problems.is_empty());
    let delta = proxy.tell(slice("young-1", "young", json!([ready("10.1.0.1", "them")])));
    assert_eq!(delta.changes.len(), 1);
    assert!(delta.problems.is_empty(), "nothing new: {:?}", delta.problems);
}
