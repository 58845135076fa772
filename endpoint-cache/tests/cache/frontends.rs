//! Node ports, external IPs, load-balancer addresses and who may use them.

use std::net::IpAddr;

use endpoint_cache::TrafficPolicy;
use serde_json::{Value, json};

use crate::objects::*;

fn ips(list: &[IpAddr]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// A dual-stack load balancer.
fn dual_stack(ranges: Value) -> Proxy {
    let extra = json!({
        "spec": {
            "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
            "loadBalancerSourceRanges": ranges,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}},
    });
    Proxy::with([load_balancer("web", extra)])
}

fn ranges(proxy: &Proxy) -> [Option<Vec<String>>; 2] {
    [proxy.v4("ns/web"), proxy.v6("ns/web")].map(|port| {
        port.source_ranges.as_ref().map(|ranges| ranges.iter().map(ToString::to_string).collect())
    })
}

#[test]
fn a_load_balancer_has_all_kinds() {
    let proxy = Proxy::with([load_balancer(
        "web",
        json!({"spec": {"externalIPs": ["198.51.100.2", "198.51.100.1"]}}),
    )]);
    let web = proxy.v4("ns/web");
    assert_eq!(web.node_port, Some(30080));
    assert_eq!(ips(&web.external_ips), ["198.51.100.1", "198.51.100.2"]);
    assert_eq!(ips(&web.load_balancer_ips), ["192.0.2.1"]);
    assert_eq!(web.source_ranges, None);
}

#[test]
fn each_family_gets_its_own_addresses() {
    let proxy = dual_stack(json!([]));
    assert_eq!(ips(&proxy.v4("ns/web").load_balancer_ips), ["192.0.2.1"]);
    assert_eq!(ips(&proxy.v6("ns/web").load_balancer_ips), ["2001:db8::1"]);
    assert_eq!(proxy.v6("ns/web").node_port, Some(30080));
}

#[test]
fn a_proxying_load_balancer_has_no_address_here() {
    let ingress = json!([
        {"ip": "192.0.2.1", "ipMode": "Proxy"}, {"ip": "192.0.2.2", "ipMode": "VIP"},
        {"hostname": "lb.example"}, {"ip": "192.0.2.3"},
    ]);
    let proxy =
        Proxy::with([load_balancer("web", json!({"status": {"loadBalancer": {"ingress": ingress}}}))]);
    assert_eq!(ips(&proxy.v4("ns/web").load_balancer_ips), ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(proxy.v4("ns/web").node_port, Some(30080));
}

#[test]
fn no_node_port_was_allocated() {
    let proxy =
        Proxy::with([load_balancer("web", json!({"spec": {"ports": [{"port": 80, "nodePort": 0}]}}))]);
    assert_eq!(proxy.v4("ns/web").node_port, None);
    assert_eq!(ips(&proxy.v4("ns/web").load_balancer_ips), ["192.0.2.1"]);
}

#[test]
fn an_address_is_listed_once_whatever_it_is_called() {
    let external = json!(["192.0.2.1", "192.000.002.001", "10.0.0.1"]);
    let proxy = Proxy::with([load_balancer("web", json!({"spec": {"externalIPs": external}}))]);
    let web = proxy.v4("ns/web");
    assert_eq!(ips(&web.external_ips), ["192.0.2.1"], "not the ClusterIP, and no address twice");
    assert_eq!(web.external_addresses().count(), 1);
}

#[test]
fn source_ranges_are_trimmed_and_disjoint() {
    let proxy = dual_stack(json!([
        " 010.0.0.0/8 ",
        "10.1.0.0/16",
        "192.0.2.128/25",
        "192.0.2.0/25",
        "2001:db8::/32"
    ]));
    let v4 = vec!["10.0.0.0/8".to_owned(), "192.0.2.0/24".to_owned()];
    assert_eq!(ranges(&proxy), [Some(v4), Some(vec!["2001:db8::/32".to_owned()])]);
}

#[test]
fn a_range_of_everything_restricts_nobody() {
    let proxy = dual_stack(json!(["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"]));
    assert_eq!(ranges(&proxy), [None, Some(vec!["2001:db8::/32".to_owned()])]);
    assert_eq!(ranges(&dual_stack(json!(["0.0.0.0/0"]))), [None, None]);
}

#[test]
fn ranges_of_one_family_close_the_other() {
    assert_eq!(
        ranges(&dual_stack(json!(["192.0.2.0/24"]))),
        [Some(vec!["192.0.2.0/24".to_owned()]), Some(vec![])]
    );
    assert_eq!(ranges(&dual_stack(json!(["nonsense"]))), [Some(vec![]), Some(vec![])]);
    assert_eq!(ranges(&dual_stack(json!([]))), [None, None]);
}

#[test]
fn policies_are_read() {
    let policies = json!({"spec": {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}});
    let web = Proxy::with([load_balancer("web", policies)]).v4("ns/web");
    assert_eq!((web.external_policy, web.internal_policy), (TrafficPolicy::Local, TrafficPolicy::Local));
    let web = Proxy::with([load_balancer("web", json!({}))]).v4("ns/web");
    assert_eq!((web.external_policy, web.internal_policy), (TrafficPolicy::Cluster, TrafficPolicy::Cluster));
}
