//! Hints for zones and nodes.

use endpoint_cache::object::Kind;
use serde_json::{Value, json};

use crate::objects::*;

/// A ready endpoint with hints.
fn hinted(address: &str, zones: &[&str], nodes: &[&str]) -> Value {
    let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    json!({"addresses": [address], "hints": {"forZones": names(zones), "forNodes": names(nodes)}})
}

/// The last octets of the endpoints used under policy Cluster, on the own node in zone `a`.
fn used(endpoints: Value) -> Vec<u8> {
    last_octets(&Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints), node_in("a")]))
}

fn last_octets(proxy: &Proxy) -> Vec<u8> {
    let octet = |e: &endpoint_cache::Endpoint| match e.address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => panic!("an IPv6 endpoint"),
    };
    proxy.v4("ns/web").cluster_endpoints.iter().map(octet).collect()
}

#[test]
fn zone_hints_keep_traffic_in_the_zone() {
    let endpoints = json!([
        hinted("10.1.0.1", &["a"], &[]),
        hinted("10.1.0.2", &["b"], &[]),
        hinted("10.1.0.3", &["b", "a"], &[]),
    ]);
    assert_eq!(used(endpoints), [1, 3]);
}

#[test]
fn one_endpoint_without_hint_ends_it() {
    let endpoints = json!([hinted("10.1.0.1", &["a"], &[]), hinted("10.1.0.2", &[], &[])]);
    assert_eq!(used(endpoints), [1, 2]);
}

#[test]
fn no_endpoint_for_the_zone() {
    let endpoints = json!([hinted("10.1.0.1", &["b"], &[]), hinted("10.1.0.2", &["c"], &[])]);
    assert_eq!(used(endpoints), [1, 2]);
}

#[test]
fn hints_of_endpoints_that_are_not_ready_do_not_count() {
    let mut unready_here = hinted("10.1.0.1", &["a"], &["us"]);
    unready_here["conditions"] = json!({"ready": false});
    let endpoints =
        json!([unready_here, hinted("10.1.0.2", &["b"], &["them"]), hinted("10.1.0.3", &["b"], &["them"])]);
    assert_eq!(used(endpoints), [2, 3], "nothing ready is meant for us");
    let mut unready_hintless = hinted("10.1.0.1", &[], &[]);
    unready_hintless["conditions"] = json!({"ready": false});
    let endpoints =
        json!([unready_hintless, hinted("10.1.0.2", &["a"], &[]), hinted("10.1.0.3", &["b"], &[])]);
    assert_eq!(used(endpoints), [2], "nor does the lack of one");
}

#[test]
fn node_hints_come_before_zone_hints() {
    let endpoints = json!([hinted("10.1.0.1", &["a"], &["us"]), hinted("10.1.0.2", &["a"], &["them"])]);
    assert_eq!(used(endpoints), [1]);
    // None for this node: the zone decides.
    let endpoints = json!([hinted("10.1.0.1", &["a"], &["other"]), hinted("10.1.0.2", &["b"], &["them"])]);
    assert_eq!(used(endpoints), [1]);
    // One without node hint: the zone decides.
    let endpoints = json!([hinted("10.1.0.1", &["b"], &["us"]), hinted("10.1.0.2", &["a"], &[])]);
    assert_eq!(used(endpoints), [2]);
    // Neither for us: all.
    let endpoints = json!([hinted("10.1.0.1", &["b"], &["other"]), hinted("10.1.0.2", &["b"], &["them"])]);
    assert_eq!(used(endpoints), [1, 2]);
}

#[test]
fn node_hints_need_no_zone() {
    let endpoints = json!([hinted("10.1.0.1", &[], &["us"]), hinted("10.1.0.2", &[], &["them"])]);
    let proxy = Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints)]);
    assert_eq!(last_octets(&proxy), [1]);
}

#[test]
fn the_terminating_fallback_knows_no_hints() {
    let draining = |address: &str, zone: &str| {
        let mut endpoint = terminating(address, "them", true);
        endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        endpoint
    };
    assert_eq!(used(json!([draining("10.1.0.1", "a"), draining("10.1.0.2", "b")])), [1, 2]);
}

#[test]
fn policy_local_knows_no_hints() {
    let mut here = hinted("10.1.0.1", &["b"], &[]);
    here["nodeName"] = json!(NODE);
    let endpoints = json!([here, hinted("10.1.0.2", &["a"], &[])]);
    let policy = json!({"spec": {"externalTrafficPolicy": "Local"}});
    let proxy = Proxy::with([load_balancer("web", policy), slice("web-1", "web", endpoints), node_in("a")]);
    assert_eq!(texts(&proxy.v4("ns/web").local_endpoints), ["10.1.0.1:8080"]);
    assert_eq!(last_octets(&proxy), [2]);
}

#[test]
fn the_node_may_change_its_zone() {
    let endpoints = json!([hinted("10.1.0.1", &["a"], &[]), hinted("10.1.0.2", &["b"], &[])]);
    let mut proxy = Proxy::with([
        plain("web", "10.0.0.1"),
        slice("web-1", "web", endpoints),
        plain("hintless", "10.0.0.2"),
        slice("hintless-1", "hintless", json!([ready("10.1.0.9", "them")])),
    ]);
    assert_eq!(last_octets(&proxy), [1, 2], "no zone is known yet");
    for (update, expected) in [
        (node_in("a"), vec![1]),
        (node_in("b"), vec![2]),
        (node_in("c"), vec![1, 2]),
        (node_in("a"), vec![1]),
        (deleted(Kind::Node, NODE), vec![1, 2]),
    ] {
        let delta = proxy.tell(update.clone());
        assert_eq!(last_octets(&proxy), expected, "{update:?}");
        assert_eq!(delta.changes.len(), 1, "the Service without hints is left alone");
    }
}

#[test]
fn zones_are_per_slice_but_rules_are_per_service() {
    let proxy = Proxy::with([
        plain("web", "10.0.0.1"),
        slice("web-1", "web", json!([hinted("10.1.0.1", &["a"], &[])])),
        slice("web-2", "web", json!([hinted("10.1.0.2", &["b"], &[])])),
        node_in("a"),
    ]);
    assert_eq!(last_octets(&proxy), [1]);
}
