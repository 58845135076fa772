//! What deltas hold, and what they leave alone.

use std::sync::Arc;

use endpoint_cache::object::Kind;
use endpoint_cache::{Delta, Family, Update};
use serde_json::json;

use crate::objects::*;

#[test]
fn nothing_comes_of_nothing() {
    let mut proxy = Proxy::new();
    assert!(proxy.cache.take_delta().is_empty());
    assert!(proxy.tell(deleted(Kind::Service, "web")).is_empty());
    assert!(proxy.tell(deleted(Kind::EndpointSlice, "web")).is_empty());
    assert!(proxy.tell(deleted(Kind::ServiceCidr, "web")).is_empty());
    assert!(proxy.cache.desired().service_ports.is_empty());
}

#[test]
fn the_same_again_changes_nothing() {
    let updates = || {
        let endpoints = json!([ready("10.1.0.1", "them")]);
        [
            load_balancer("web", json!({})),
            slice("web-1", "web", endpoints),
            node_in("a"),
            service_cidr("c", json!(["10.0.0.0/16"])),
        ]
    };
    let mut proxy = Proxy::new();
    assert_eq!(proxy.tell_all(updates()).changes.len(), 1);
    assert!(proxy.tell_all(updates()).is_empty());
}

#[test]
fn there_and_back_between_two_deltas_changes_nothing() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1")]);
    let before = proxy.v4("ns/web");
    assert!(proxy.tell_all([deleted(Kind::Service, "web"), plain("web", "10.0.0.1")]).is_empty());
    assert!(proxy.tell_all([plain("shop", "10.0.0.2"), deleted(Kind::Service, "shop")]).is_empty());
    assert!(Arc::ptr_eq(&before, &proxy.v4("ns/web")), "what stayed equal is the same allocation");
}

#[test]
fn a_change_holds_both_sides() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1"), plain("other", "10.0.0.2")]);
    let held = proxy.v4("ns/web");
    let delta = proxy.tell(slice("web-1", "web", json!([ready("10.1.0.1", "them")])));
    let [change] = &delta.changes[..] else { panic!("one change: {:?}", delta.changes) };
    assert!(change.before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &held)));
    assert!(change.after.as_ref().is_some_and(|after| after.cluster_endpoints.len() == 1));
}

/// A slice with one endpoint, written for something that happened at this time.
fn triggered(address: &str, time: &str) -> Update {
    let annotations = json!({"endpoints.kubernetes.io/last-change-trigger-time": time});
    let fields = json!({"metadata": {"annotations": annotations}, "endpoints": [ready(address, "them")]});
    slice_with("web-1", "web", fields)
}

fn times(delta: &Delta) -> Vec<&str> {
    delta.triggers.iter().map(|trigger| &*trigger.time).collect()
}

#[test]
fn what_led_to_changes_of_endpoints_is_told_once() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1")]);
    let delta = proxy.tell_all([triggered("10.1.0.1", "1"), triggered("10.1.0.2", "2")]);
    assert_eq!(times(&delta), ["1", "2"]);
    assert!(delta.triggers.iter().all(|trigger| trigger.family == Family::V4));
    assert_eq!(times(&proxy.tell(triggered("10.1.0.2", "3"))), [""; 0], "nothing has changed");
    assert_eq!(times(&proxy.tell(plain("web", "10.0.0.2"))), [""; 0]);
}

#[test]
fn what_led_to_changes_of_a_slice_that_goes_is_not_told() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1")]);
    let gone = deleted(Kind::EndpointSlice, "web-1");
    assert_eq!(times(&proxy.tell_all([triggered("10.1.0.1", "1"), gone])), [""; 0]);
    assert_eq!(times(&proxy.tell(triggered("10.1.0.1", "2"))), ["2"]);
}

#[test]
fn objects_are_counted_and_those_that_change_something() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1"), plain("web", "10.0.0.1")]);
    let first = slice("web-1", "web", json!([ready("10.1.0.1", "them")]));
    proxy.tell_all([first.clone(), first, deleted(Kind::EndpointSlice, "web-1")]);
    let tally = proxy.cache.tally();
    assert_eq!((tally.services.given, tally.services.changed), (2, 1));
    assert_eq!((tally.slices.given, tally.slices.changed), (3, 2));
    proxy.tell_all([deleted(Kind::Service, "web"), deleted(Kind::Service, "unknown")]);
    let tally = proxy.cache.tally();
    assert_eq!((tally.services.given, tally.services.changed), (4, 2));
}

#[test]
fn an_unused_part_of_a_slice_changes_nothing() {
    let mut proxy =
        Proxy::with([plain("web", "10.0.0.1"), slice("web-1", "web", json!([ready("10.1.0.1", "them")]))]);
    let annotated =
        json!({"metadata": {"annotations": {"a": "b"}}, "endpoints": [ready("10.1.0.1", "third")]});
    assert!(proxy.tell(slice_with("web-1", "web", annotated)).is_empty());
}

#[test]
fn removals_then_changes_then_additions() {
    let mut proxy = Proxy::with([plain("m-changed", "10.0.0.1"), plain("z-removed", "10.0.0.2")]);
    let delta = proxy.tell_all([
        plain("a-added", "10.0.0.2"),
        plain("m-changed", "10.0.0.3"),
        deleted(Kind::Service, "z-removed"),
    ]);
    let kinds: Vec<_> = delta.changes.iter().map(|c| (c.before.is_some(), c.after.is_some())).collect();
    assert_eq!(kinds, [(true, false), (true, true), (false, true)]);
}

#[test]
fn desired_is_what_the_deltas_said_not_what_is_pending() {
    let mut proxy = Proxy::with([plain("web", "10.0.0.1")]);
    proxy.cache.apply(plain("shop", "10.0.0.2"));
    assert_eq!(proxy.served(), ["ns/web IPv4/tcp"]);
    proxy.cache.take_delta();
    assert_eq!(proxy.served(), ["ns/shop IPv4/tcp", "ns/web IPv4/tcp"]);
}

#[test]
fn ports_of_a_service_do_not_disturb_each_other() {
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    let mut proxy = Proxy::with([service("web", json!({"clusterIP": "10.0.0.1", "ports": ports}))]);
    let only_b = json!({"endpoints": [ready("10.1.0.1", "them")], "ports": [{"name": "b", "port": 8081}]});
    let delta = proxy.tell(slice_with("web-1", "web", only_b));
    let names: Vec<_> =
        delta.changes.iter().flat_map(|c| c.after.as_ref().map(|p| p.name.to_string())).collect();
    assert_eq!(names, ["ns/web:b"]);
}
