//! What is told of Services to people: every endpoint, and why it is not used.

use std::collections::BTreeSet;

use endpoint_cache::object::Kind;
use endpoint_cache::{Cache, Family, Portrait, TrafficPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::generate::update;
use crate::objects::*;

fn portrait(proxy: &Proxy, name: &str) -> Portrait {
    let portraits = proxy.cache.portraits();
    portraits.into_iter().find(|known| &*known.name.name == name).expect("it is not known")
}

/// Addresses of the only port's endpoints, and why they are not used.
fn reasons(proxy: &Proxy) -> Vec<(String, String)> {
    let spec = portrait(proxy, "web").spec.expect("it is served");
    let endpoints = spec.ports.iter().flat_map(|port| &port.endpoints);
    let reason = |why_not: &Option<endpoint_cache::WhyNot>| {
        why_not.as_ref().map_or("used".to_owned(), ToString::to_string)
    };
    endpoints.map(|e| (format!("{}:{}", e.address, e.port), reason(&e.why_not))).collect()
}

fn assert_reasons(proxy: &Proxy, expected: &[(&str, &str)]) {
    let reasons = reasons(proxy);
    let reasons: Vec<_> = reasons.iter().map(|(address, why)| (address.as_str(), why.as_str())).collect();
    assert_eq!(reasons, expected);
}

fn of_plain(endpoints: Value) -> Proxy {
    Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints), node_in("a")])
}

#[test]
fn conditions_are_reasons() {
    let mut not_ready = ready("10.1.0.2", "them");
    not_ready["conditions"] = json!({"ready": false});
    let proxy = of_plain(json!([
        ready("10.1.0.1", "us"),
        not_ready,
        terminating("10.1.0.3", "them", true),
        terminating("10.1.0.4", "them", false),
    ]));
    assert_reasons(
        &proxy,
        &[
            ("10.1.0.1:8080", "used"),
            ("10.1.0.2:8080", "not ready"),
            ("10.1.0.3:8080", "terminating while others are ready"),
            ("10.1.0.4:8080", "terminating, and serving no longer"),
        ],
    );
}

#[test]
fn the_last_resort_is_used() {
    let proxy = of_plain(json!([terminating("10.1.0.3", "them", true)]));
    assert_reasons(&proxy, &[("10.1.0.3:8080", "used")]);
}

#[test]
fn hints_are_reasons() {
    let hinted = |address: &str, field: &str, name: &str| json!({"addresses": [address], "hints": {field: [{"name": name}]}});
    let zones = of_plain(json!([hinted("10.1.0.1", "forZones", "a"), hinted("10.1.0.2", "forZones", "b")]));
    assert_reasons(&zones, &[("10.1.0.1:8080", "used"), ("10.1.0.2:8080", "hinted at zone b")]);
    let nodes =
        of_plain(json!([hinted("10.1.0.1", "forNodes", "us"), hinted("10.1.0.2", "forNodes", "them")]));
    assert_reasons(&nodes, &[("10.1.0.1:8080", "used"), ("10.1.0.2:8080", "hinted at other nodes")]);
}

#[test]
fn policy_local_is_a_reason_where_anything_has_it() {
    let endpoints = json!([ready("10.1.0.1", "us"), ready("10.1.0.2", "them")]);
    for (policies, why) in [
        (
            json!({"externalTrafficPolicy": "Local"}),
            "on another node, and the external traffic policy is Local",
        ),
        (
            json!({"internalTrafficPolicy": "Local"}),
            "on another node, and the internal traffic policy is Local",
        ),
        (
            json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
            "on another node, and both traffic policies are Local",
        ),
    ] {
        let service = load_balancer("web", json!({"spec": policies}));
        let proxy = Proxy::with([service, slice("web-1", "web", endpoints.clone())]);
        assert_reasons(&proxy, &[("10.1.0.1:8080", "used"), ("10.1.0.2:8080", why)]);
    }
    let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}], "externalTrafficPolicy": "Local"});
    let unreachable = Proxy::with([service("web", spec), slice("web-1", "web", endpoints)]);
    assert_reasons(&unreachable, &[("10.1.0.1:8080", "used"), ("10.1.0.2:8080", "used")]);
}

#[test]
fn slices_that_cannot_be_used_are_reasons() {
    let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]});
    let http = json!({"ports": [{"name": "http", "port": 8080}], "endpoints": [ready("10.1.0.1", "us")]});
    let v6 = json!({"addressType": "IPv6", "ports": [{"name": "http", "port": 8080}], "endpoints": [ready("fd00::1", "us")]});
    let proxy = Proxy::with([
        service("web", spec),
        slice_with("web-1", "web", http.clone()),
        slice_with("web-2", "web", http),
        slice("web-abc", "web", json!([ready("10.1.0.2", "us")])),
        slice_with("web-v6", "web", v6),
    ]);
    assert_reasons(
        &proxy,
        &[
            ("10.1.0.2:0", "no tcp port named http in slice web-abc"),
            ("10.1.0.1:8080", "used"),
            ("10.1.0.1:8080", "named once more, and what slice web-1 says of it counts"),
            ("fd00::1:8080", "another family: the Service has no IPv6 ClusterIP"),
        ],
    );
}

#[test]
fn endpoints_are_told_with_node_and_slice() {
    let proxy =
        of_plain(json!([ready("10.1.0.1", "us"), ready("10.1.0.2", "them"), {"addresses": ["10.1.0.3"]}]));
    let spec = portrait(&proxy, "web").spec.expect("it is served");
    let told: Vec<_> =
        spec.ports[0].endpoints.iter().map(|e| (e.node.as_deref(), e.local, &*e.slice)).collect();
    assert_eq!(told, [(Some("us"), true, "web-1"), (Some("them"), false, "web-1"), (None, false, "web-1")]);
}

#[test]
fn what_is_not_for_a_proxy_is_known_by_name_until_it_is_gone() {
    let other = json!({"service.kubernetes.io/service-proxy-name": "other"});
    let mut proxy = Proxy::with([
        service("db", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
        service("far", json!({"type": "ExternalName"})),
        labelled_service("theirs", other, json!({"clusterIP": "10.0.0.9", "ports": [{"port": 80}]})),
    ]);
    for (name, words) in [("db", "headless"), ("far", "ExternalName"), ("theirs", "another proxy's")] {
        let why = portrait(&proxy, name).spec.expect_err("it is not served").to_string();
        assert!(why.contains(words), "{why}");
    }
    proxy.tell_all([
        deleted(Kind::Service, "db"),
        plain("far", "10.0.0.2"),
        endpoint_cache::Update::ListBegins(Kind::Service),
        plain("far", "10.0.0.2"),
        endpoint_cache::Update::ListEnds(Kind::Service),
    ]);
    let portraits = proxy.cache.portraits();
    let names: Vec<_> = portraits.iter().map(|known| (&*known.name.name, known.spec.is_ok())).collect();
    assert_eq!(names, [("far", true)]);
}

#[test]
fn problems_of_a_service_and_its_slices_are_told() {
    let first = service_object(json!({
        "metadata": {"name": "old", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
    }));
    let second = service_object(json!({
        "metadata": {"name": "web", "namespace": "ns", "creationTimestamp": "2026-01-02T00:00:00Z"},
        "spec": {"clusterIP": "10.0.0.1", "externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]},
    }));
    let proxy = Proxy::with([first, second, slice("web-1", "web", json!([ready("169.254.0.1", "us")]))]);
    let problems = portrait(&proxy, "web").problems;
    let told: Vec<_> = problems.iter().map(|problem| (problem.object.kind, problem.field.as_str())).collect();
    assert_eq!(
        told,
        [
            (Kind::Service, "spec.externalIPs[0]"),
            (Kind::Service, "spec.clusterIPs"),
            (Kind::EndpointSlice, "endpoints[0].addresses[0]"),
        ]
    );
}

#[test]
fn objects_are_counted() {
    let endpoints = json!([ready("10.1.0.1", "us"), ready("10.1.0.2", "us")]);
    let mut proxy = of_plain(endpoints.clone());
    let count = |proxy: &Proxy| {
        let census = proxy.cache.census();
        (census.services, census.slices, census.endpoints)
    };
    assert_eq!(count(&proxy), (1, 1, 2));
    proxy.tell_all([
        slice("web-1", "web", json!([ready("10.1.0.1", "us")])),
        slice("web-2", "web", endpoints),
        plain("web", "10.0.0.2"),
    ]);
    assert_eq!(count(&proxy), (1, 2, 3));
    proxy.tell_all([
        deleted(Kind::EndpointSlice, "web-1"),
        deleted(Kind::EndpointSlice, "web-2"),
        deleted(Kind::Service, "web"),
    ]);
    assert_eq!(count(&proxy), (0, 0, 0));
}

proptest! {
    /// What is told to be used is what is programmed.
    #[test]
    fn portraits_agree_with_what_is_programmed(history in vec(update(), 1..40)) {
        let mut cache = Cache::new(NODE);
        history.into_iter().for_each(|update| cache.apply(update));
        cache.take_delta();
        let portraits = cache.portraits();
        for served in cache.desired().service_ports {
            let is = |known: &&Portrait| {
                (&known.name.namespace, &known.name.name) == (&served.name.namespace, &served.name.name)
            };
            let spec = portraits.iter().find(is).expect("it is known").spec.as_ref().expect("it is served");
            let port = spec.ports.iter().find(|port| (&port.name, port.protocol) == (&served.name.port, served.name.protocol));
            let endpoints = &port.expect("the port is known").endpoints;
            let of_family = || endpoints.iter().filter(|e| Family::of(e.address) == served.family);
            let set = |list: &[endpoint_cache::Endpoint]| list.iter().map(|e| (e.address, e.port)).collect::<BTreeSet<_>>();
            let by_cluster: BTreeSet<_> = of_family().filter(|e| e.used_by_cluster).map(|e| (e.address, e.port)).collect();
            prop_assert_eq!(by_cluster, set(&served.cluster_endpoints));
            let in_use = served.endpoints_in_use(TrafficPolicy::Local);
            let by_local: BTreeSet<_> = of_family().filter(|e| e.used_by_local).map(|e| (e.address, e.port)).collect();
            prop_assert!(in_use.is_empty() || by_local == set(in_use), "{:?} {:?}", by_local, in_use);
            // Whatever is used by nobody has a reason.
            let without = of_family().find(|e| !e.used_by_cluster && !e.used_by_local && e.why_not.is_none());
            prop_assert!(without.is_none(), "{:?}", without);
        }
    }
}
