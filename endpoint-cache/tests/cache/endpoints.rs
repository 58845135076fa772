//! Conditions, policies and slices: which endpoints a port has.

use endpoint_cache::object::Kind;
use endpoint_cache::{Family, Traffic, Update};
use serde_json::{Value, json};

use crate::objects::*;

/// What a plain Service with these slices may use under policy Cluster.
fn cluster_endpoints(slices: impl IntoIterator<Item = Update>) -> Vec<String> {
    let proxy = Proxy::with(slices.into_iter().chain([plain("web", "10.0.0.1")]));
    texts(&proxy.v4("ns/web").cluster_endpoints)
}

/// A load balancer with both policies Local, and these endpoints.
fn local_policies(endpoints: Value) -> Proxy {
    let policies = json!({"spec": {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}});
    Proxy::with([load_balancer("web", policies), slice("web-1", "web", endpoints)])
}

fn with_conditions(address: &str, conditions: Value) -> Value {
    json!({"addresses": [address], "conditions": conditions})
}

#[test]
fn loopback_addresses_are_endpoints_only_if_allowed() {
    let endpoints = json!([ready("127.0.0.2", "us"), ready("10.1.0.1", "us"), ready("169.254.0.1", "us")]);
    let updates = [plain("web", "10.0.0.1"), slice("web-1", "web", endpoints)];
    let served = |allowed: bool| {
        let mut proxy = Proxy { cache: endpoint_cache::Cache::new(NODE).with_loopback_endpoints(allowed) };
        let problems = proxy.tell_all(updates.clone()).problems.len();
        (texts(&proxy.v4("ns/web").cluster_endpoints), problems)
    };
    assert_eq!(served(false), (vec!["10.1.0.1:8080".to_owned()], 2));
    assert_eq!(served(true), (vec!["10.1.0.1:8080".to_owned(), "127.0.0.2:8080".to_owned()], 1));
}

#[test]
fn conditions_have_defaults() {
    let endpoints = json!([
        {"addresses": ["10.1.0.1"]},
        with_conditions("10.1.0.2", json!(null)),
        with_conditions("10.1.0.3", json!({"ready": null})),
        with_conditions("10.1.0.4", json!({"ready": false})),
    ]);
    let proxy = Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints)]);
    let web = proxy.v4("ns/web");
    assert_eq!(texts(&web.cluster_endpoints), ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]);
    assert_eq!(web.serving_endpoints.len(), 4, "serving is true unless said otherwise");
}

#[test]
fn only_the_ready_while_there_are_any() {
    let mixed = json!([ready("10.1.0.1", "them"), terminating("10.1.0.2", "them", true)]);
    assert_eq!(cluster_endpoints([slice("web-1", "web", mixed)]), ["10.1.0.1:8080"]);
}

#[test]
fn the_terminating_that_still_serve_are_the_last_resort() {
    let draining = json!([terminating("10.1.0.1", "them", true), terminating("10.1.0.2", "them", false)]);
    assert_eq!(cluster_endpoints([slice("web-1", "web", draining)]), ["10.1.0.1:8080"]);
}

#[test]
fn never_used() {
    for conditions in [
        json!({"ready": false, "serving": false, "terminating": true}),
        json!({"ready": false, "serving": true, "terminating": false}),
        json!({"ready": false, "serving": false}),
    ] {
        let endpoints = json!([with_conditions("10.1.0.1", conditions.clone())]);
        let proxy = Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints)]);
        assert!(matches!(proxy.v4("ns/web").internal_traffic(), Traffic::Reject), "{conditions}");
    }
}

#[test]
fn ready_though_terminating_is_ready() {
    // What publishNotReadyAddresses looks like.
    let endpoints =
        json!([with_conditions("10.1.0.1", json!({"ready": true, "serving": false, "terminating": true}))]);
    let proxy = Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", endpoints)]);
    assert_eq!(texts(&proxy.v4("ns/web").cluster_endpoints), ["10.1.0.1:8080"]);
    assert_eq!(texts(&proxy.v4("ns/web").serving_endpoints), ["10.1.0.1:8080"], "its flows stay");
}

#[test]
fn serving_endpoints_know_no_policy() {
    let proxy = local_policies(json!([
        ready("10.1.0.1", "us"),
        ready("10.1.0.2", "them"),
        terminating("10.1.0.3", "them", true),
        terminating("10.1.0.4", "us", false),
    ]));
    let serving = texts(&proxy.v4("ns/web").serving_endpoints);
    assert_eq!(serving, ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]);
}

#[test]
fn local_means_node_name() {
    let proxy = local_policies(json!([
        ready("10.1.0.1", "us"), ready("10.1.0.2", "them"), {"addresses": ["10.1.0.3"]},
    ]));
    let web = proxy.v4("ns/web");
    assert_eq!(texts(&web.local_endpoints), ["10.1.0.1:8080"]);
    assert_eq!(web.cluster_endpoints.iter().map(|e| e.local).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn the_node_name_is_compared_in_lower_case() {
    let mut cache = endpoint_cache::Cache::new(" US ");
    cache.apply(plain("web", "10.0.0.1"));
    cache.apply(slice("web-1", "web", json!([ready("10.1.0.1", "us")])));
    cache.take_delta();
    assert!(cache.desired().service_ports[0].cluster_endpoints[0].local);
}

#[test]
fn local_terminating_ones_are_used_though_others_are_ready_elsewhere() {
    let web =
        local_policies(json!([terminating("10.1.0.1", "us", true), ready("10.1.0.2", "them")])).v4("ns/web");
    assert_eq!(texts(&web.local_endpoints), ["10.1.0.1:8080"]);
    assert_eq!(texts(&web.cluster_endpoints), ["10.1.0.2:8080"]);
}

#[test]
fn without_local_endpoints_local_traffic_is_dropped() {
    let web = local_policies(json!([ready("10.1.0.2", "them")])).v4("ns/web");
    assert_eq!((web.internal_traffic(), web.external_traffic()), (Traffic::Drop, Traffic::Drop));
    let web = local_policies(json!([])).v4("ns/web");
    assert_eq!((web.internal_traffic(), web.external_traffic()), (Traffic::Reject, Traffic::Reject));
}

#[test]
fn no_local_list_where_no_frontend_needs_it() {
    let local = json!([ready("10.1.0.1", "us")]);
    // Nothing external leads to it, so its external policy applies to nothing.
    let spec = json!({"clusterIP": "10.0.0.1", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let proxy = Proxy::with([service("web", spec), slice("web-1", "web", local.clone())]);
    assert!(proxy.v4("ns/web").local_endpoints.is_empty());
    // An external IP does, whatever the type.
    let spec = json!({"clusterIP": "10.0.0.1", "externalTrafficPolicy": "Local",
        "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]});
    let proxy = Proxy::with([service("web", spec), slice("web-1", "web", local)]);
    assert_eq!(texts(&proxy.v4("ns/web").local_endpoints), ["10.1.0.1:8080"]);
}

#[test]
fn several_slices_with_their_own_port_numbers() {
    let other = json!({"endpoints": [ready("10.1.0.2", "them")], "ports": [{"name": "", "port": 9090}]});
    let slices =
        [slice("web-1", "web", json!([ready("10.1.0.1", "them")])), slice_with("web-2", "web", other)];
    assert_eq!(cluster_endpoints(slices), ["10.1.0.1:8080", "10.1.0.2:9090"]);
}

#[test]
fn a_copy_that_is_not_terminating_wins() {
    let old = slice("web-a", "web", json!([terminating("10.1.0.1", "them", true)]));
    let new = slice("web-b", "web", json!([ready("10.1.0.1", "us")]));
    assert_eq!(cluster_endpoints([old.clone(), new.clone()]), ["10.1.0.1:8080"]);
    let proxy = Proxy::with([plain("web", "10.0.0.1"), new, old]);
    let web = proxy.v4("ns/web");
    assert!(web.cluster_endpoints[0].local, "the living pod is here");
    assert_eq!(web.serving_endpoints.len(), 1);
}

#[test]
fn only_the_first_address_counts() {
    let endpoints = json!([{"addresses": ["10.1.0.1", "10.1.0.2"]}, {"addresses": []}, {"addresses": null}]);
    assert_eq!(cluster_endpoints([slice("web-1", "web", endpoints)]), ["10.1.0.1:8080"]);
}

#[test]
fn slices_that_are_none_of_ours() {
    let endpoints = json!([ready("10.1.0.1", "them")]);
    let headless =
        json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}, "endpoints": endpoints});
    let names = json!({"addressType": "FQDN", "endpoints": [ready("pod.example", "them")]});
    let other_port = json!({"endpoints": endpoints, "ports": [{"name": "other", "port": 8080}]});
    let other_protocol =
        json!({"endpoints": endpoints, "ports": [{"name": "", "protocol": "UDP", "port": 8080}]});
    let every_port = json!({"endpoints": endpoints, "ports": [{"name": ""}]});
    for extra in [headless, names, other_port, other_protocol, every_port] {
        let mut proxy = Proxy::with([plain("web", "10.0.0.1")]);
        let delta = proxy.tell(slice_with("web-1", "web", extra.clone()));
        assert!(delta.is_empty() && delta.problems.is_empty(), "{extra}: {delta:?}");
    }
}

#[test]
fn a_slice_of_no_service_is_nobodys() {
    for name in ["", "other"] {
        assert!(cluster_endpoints([slice("web-1", name, json!([ready("10.1.0.1", "them")]))]).is_empty());
    }
}

#[test]
fn a_port_without_a_name_is_the_unnamed_one() {
    let nameless = json!({"endpoints": [ready("10.1.0.1", "them")], "ports": [{"name": null, "port": 8080}]});
    assert_eq!(cluster_endpoints([slice_with("web-1", "web", nameless)]), ["10.1.0.1:8080"]);
}

#[test]
fn slices_serve_their_own_family() {
    let spec = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]});
    let v6 = json!({"addressType": "IPv6", "endpoints": [ready("fd01::1", "them")]});
    let proxy = Proxy::with([
        service("web", spec),
        slice("web-4", "web", json!([ready("10.1.0.1", "them")])),
        slice_with("web-6", "web", v6),
    ]);
    assert_eq!(texts(&proxy.v4("ns/web").cluster_endpoints), ["10.1.0.1:8080"]);
    assert_eq!(texts(&proxy.v6("ns/web").cluster_endpoints), ["[fd01::1]:8080"]);
    assert_eq!(proxy.v6("ns/web").family, Family::V6);
}

#[test]
fn slices_come_before_their_service_move_and_go() {
    let endpoints = json!([ready("10.1.0.1", "them")]);
    let mut proxy = Proxy::with([slice("s", "web", endpoints.clone())]);
    proxy.tell_all([plain("web", "10.0.0.1"), plain("shop", "10.0.0.2")]);
    let used = |proxy: &Proxy| ["ns/web", "ns/shop"].map(|name| proxy.v4(name).cluster_endpoints.len());
    assert_eq!(used(&proxy), [1, 0]);
    proxy.tell(slice("s", "shop", endpoints.clone()));
    assert_eq!(used(&proxy), [0, 1]);
    let headless =
        json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}, "endpoints": endpoints});
    proxy.tell(slice_with("s", "shop", headless));
    assert_eq!(used(&proxy), [0, 0]);
    proxy.tell(slice("s", "web", endpoints));
    assert_eq!(used(&proxy), [1, 0]);
    proxy.tell(deleted(Kind::EndpointSlice, "s"));
    assert_eq!(used(&proxy), [0, 0]);
}

#[test]
fn slices_of_another_namespace_are_not_joined() {
    let elsewhere = json!({"metadata": {"namespace": "other"}, "endpoints": [ready("10.1.0.1", "them")]});
    assert!(cluster_endpoints([slice_with("web-1", "web", elsewhere)]).is_empty());
}

#[test]
fn equal_lists_are_one_allocation() {
    let proxy = local_policies(json!([ready("10.1.0.1", "us")]));
    let web = proxy.v4("ns/web");
    assert!(std::sync::Arc::ptr_eq(&web.cluster_endpoints, &web.serving_endpoints));
    assert!(std::sync::Arc::ptr_eq(&web.cluster_endpoints, &web.local_endpoints));
}
