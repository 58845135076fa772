//! Which Services are served, in which families.

use endpoint_cache::object::Kind;
use endpoint_cache::{Family, Protocol, Traffic};
use serde_json::{Value, json};

use crate::objects::*;

#[test]
fn a_plain_service() {
    let proxy =
        Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", json!([ready("10.1.0.1", "them")]))]);
    let web = proxy.v4("ns/web");
    assert_eq!(web.cluster_ip.to_string(), "10.0.0.1");
    assert_eq!((web.port, web.name.protocol), (80, Protocol::Tcp));
    assert_eq!(texts(&web.cluster_endpoints), ["10.1.0.1:8080"]);
    assert!(!web.externally_reachable());
    assert!(matches!(web.internal_traffic(), Traffic::To([_])));
}

#[test]
fn services_that_are_none_of_ours() {
    let port = json!([{"port": 80}]);
    for spec in [
        json!({"clusterIP": "None", "ports": port}),
        json!({"clusterIP": "", "ports": port}),
        json!({"ports": port}),
        json!({"type": "ExternalName", "clusterIP": "10.0.0.1", "ports": port}),
    ] {
        let mut proxy = Proxy::new();
        let delta = proxy.tell(service("web", spec.clone()));
        assert!(delta.is_empty() && delta.problems.is_empty(), "{spec}: {delta:?}");
    }
}

#[test]
fn another_proxy_may_take_a_service_over_while_it_lives() {
    let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]});
    let mut proxy = Proxy::with([service("web", spec.clone())]);
    let label = json!({"service.kubernetes.io/service-proxy-name": ""});
    let delta = proxy.tell(labelled_service("web", label, spec.clone()));
    assert!(delta.changes[0].before.is_some() && delta.changes[0].after.is_none());
    proxy.tell(service("web", spec));
    assert_eq!(proxy.served(), ["ns/web IPv4/tcp"]);
}

#[test]
fn type_changes_are_followed_both_ways() {
    let with_type = |service_type| {
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        service("web", json!({"type": service_type, "clusterIP": "10.0.0.1", "ports": ports}))
    };
    let mut proxy = Proxy::with([with_type("ExternalName")]);
    assert!(proxy.served().is_empty());
    for (service_type, node_port) in [("ClusterIP", None), ("NodePort", Some(30080)), ("ClusterIP", None)] {
        proxy.tell(with_type(service_type));
        assert_eq!(proxy.v4("ns/web").node_port, node_port, "{service_type}");
    }
    proxy.tell(with_type("ExternalName"));
    assert!(proxy.served().is_empty());
}

fn families(spec: Value) -> Vec<(String, String)> {
    let proxy = Proxy::with([service("web", spec)]);
    let ports = proxy.cache.desired().service_ports;
    ports.iter().map(|port| (port.family.to_string(), port.cluster_ip.to_string())).collect()
}

#[test]
fn each_family_gets_its_cluster_ip() {
    let pair = |family: &str, ip: &str| (family.to_owned(), ip.to_owned());
    let ports = json!([{"port": 80}]);
    assert_eq!(
        families(json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"],
            "ipFamilies": ["IPv6", "IPv4"], "ports": ports})),
        [pair("IPv4", "10.0.0.1"), pair("IPv6", "fd00::1")]
    );
    // Without ipFamilies, only spec.clusterIP counts.
    assert_eq!(
        families(json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"], "ports": ports})),
        [pair("IPv6", "fd00::1")]
    );
    // A family without an address is not served.
    assert_eq!(
        families(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4", "IPv6"], "ports": ports})),
        [pair("IPv4", "10.0.0.1")]
    );
    // A manifest may leave clusterIPs out.
    assert_eq!(
        families(json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": ports})),
        [pair("IPv4", "10.0.0.1")]
    );
    // An address that is not of the family named for it cannot be trusted.
    assert_eq!(
        families(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv6"], "ports": ports})),
        []
    );
}

#[test]
fn addresses_outside_the_family_go_with_it() {
    let spec = json!({
        "clusterIP": "10.0.0.1", "ports": [{"port": 80}], "externalIPs": ["192.0.2.1", "2001:db8::1"],
    });
    let proxy = Proxy::with([service("web", spec)]);
    assert_eq!(proxy.v4("ns/web").external_ips.len(), 1);
    assert!(proxy.find("ns/web", Family::V6).is_none());
}

#[test]
fn every_port_is_its_own_unit() {
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns", "port": 53, "protocol": "TCP"},
        {"name": "assoc", "port": 53, "protocol": "SCTP"},
    ]);
    let spec = json!({"clusterIP": "10.0.0.1", "ports": ports});
    let slice = slice_with(
        "web-1",
        "web",
        json!({
            "endpoints": [ready("10.1.0.1", "them")],
            "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"}, {"name": "dns", "port": 2053}],
        }),
    );
    let proxy = Proxy::with([service("web", spec), slice]);
    assert_eq!(proxy.served(), ["ns/web:assoc IPv4/sctp", "ns/web:dns IPv4/tcp", "ns/web:dns IPv4/udp"]);
    let by_protocol = |protocol| {
        let ports = proxy.cache.desired().service_ports;
        let port = ports.into_iter().find(|port| port.name.protocol == protocol).expect("served");
        texts(&port.cluster_endpoints)
    };
    assert_eq!(by_protocol(Protocol::Udp), ["10.1.0.1:1053"]);
    assert_eq!(by_protocol(Protocol::Tcp), ["10.1.0.1:2053"]);
    assert!(by_protocol(Protocol::Sctp).is_empty());
}

#[test]
fn a_renamed_port_is_another_unit() {
    let named =
        |name: &str| service("web", json!({"clusterIP": "10.0.0.1", "ports": [{"name": name, "port": 80}]}));
    let mut proxy = Proxy::with([named("old")]);
    let delta = proxy.tell(named("new"));
    assert_eq!(delta.changes.len(), 2);
    assert!(delta.changes[0].after.is_none(), "the frontend is let go of before it is taken over");
    assert_eq!(proxy.served(), ["ns/web:new IPv4/tcp"]);
}

#[test]
fn a_renumbered_port_is_the_same_unit() {
    let at =
        |port: u16| service("web", json!({"clusterIP": "10.0.0.1", "ports": [{"name": "p", "port": port}]}));
    let mut proxy = Proxy::with([at(80)]);
    let delta = proxy.tell(at(81));
    let numbers: Vec<_> =
        delta.changes.iter().map(|c| [&c.before, &c.after].map(|p| p.as_ref().map(|p| p.port))).collect();
    assert_eq!(numbers, [[Some(80), Some(81)]]);
}

#[test]
fn affinity_lasts_three_hours_unless_told_otherwise() {
    let seconds = |fields: Value| {
        let proxy = Proxy::with([load_balancer("web", json!({"spec": fields}))]);
        proxy.v4("ns/web").affinity_seconds
    };
    assert_eq!(seconds(json!({})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "None"})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = |timeout: i32| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}}});
    assert_eq!(seconds(config(60)), Some(60));
    assert_eq!(seconds(config(86_400)), Some(86_400));
    assert_eq!(seconds(config(0)), Some(10_800));
    assert_eq!(seconds(config(86_401)), Some(10_800));
}

#[test]
fn deleted_and_created_again_elsewhere() {
    let mut proxy =
        Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", json!([ready("10.1.0.1", "us")]))]);
    proxy.tell(deleted(Kind::Service, "web"));
    assert!(proxy.served().is_empty());
    proxy.tell(plain("web", "10.0.0.2"));
    let web = proxy.v4("ns/web");
    assert_eq!(web.cluster_ip.to_string(), "10.0.0.2");
    assert_eq!(texts(&web.cluster_endpoints), ["10.1.0.1:8080"], "its slices had stayed");
}

#[test]
fn no_namespace_means_default() {
    let object =
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
    let mut proxy = Proxy::with([service_object(object)]);
    assert_eq!(proxy.served(), ["default/web IPv4/tcp"]);
    let name = endpoint_cache::object::ObjectName::new("", "web");
    proxy.tell(endpoint_cache::Update::Deleted(endpoint_cache::object::ObjectRef {
        kind: Kind::Service,
        name,
    }));
    assert!(proxy.served().is_empty());
}

#[test]
fn proxy_protocol_is_for_the_tcp_ports_of_who_asks() {
    let with = |annotations: Value| {
        let ports = json!([{"name": "a", "port": 80}, {"name": "a", "port": 80, "protocol": "UDP"}]);
        let metadata = json!({"name": "web", "namespace": "ns", "annotations": annotations});
        service_object(json!({"metadata": metadata, "spec": {"clusterIP": "10.0.0.1", "ports": ports}}))
    };
    let of = |update| {
        let ports = Proxy::with([update]).cache.desired().service_ports;
        let mut used: Vec<_> = ports.iter().map(|port| (port.name.protocol, port.proxy_protocol)).collect();
        used.sort_unstable();
        used
    };
    let none = [(Protocol::Tcp, false), (Protocol::Udp, false)];
    assert_eq!(of(with(json!({}))), none);
    assert_eq!(of(with(json!({"pointsman.dev/proxy-protocol": "v1"}))), none);
    let v2 = with(json!({"pointsman.dev/proxy-protocol": "v2"}));
    assert_eq!(of(v2.clone()), [(Protocol::Tcp, true), (Protocol::Udp, false)]);
    let changes = Proxy::with([with(json!({}))]).tell(v2).changes;
    assert_eq!(changes.len(), 1, "only the TCP port is another now: {changes:?}");
}
