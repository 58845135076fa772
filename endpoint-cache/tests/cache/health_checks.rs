//! What `healthCheckNodePort` responders are told.

use endpoint_cache::HealthCheck;
use endpoint_cache::object::Kind;
use serde_json::{Value, json};

use crate::objects::*;

/// A load balancer that asks on port 32000, with fields laid over its spec.
fn checked(spec: Value) -> endpoint_cache::Update {
    let mut full = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000});
    spec.as_object().into_iter().flatten().for_each(|(key, value)| full[key] = value.clone());
    load_balancer("web", json!({"spec": full}))
}

fn told(updates: impl IntoIterator<Item = endpoint_cache::Update>) -> Vec<(String, Option<HealthCheck>)> {
    let delta = Proxy::new().tell_all(updates);
    delta.health_checks.into_iter().map(|(name, check)| (name.to_string(), check)).collect()
}

fn answer(local_ready: usize) -> Vec<(String, Option<HealthCheck>)> {
    vec![("ns/web".to_owned(), Some(HealthCheck { port: 32000, local_ready }))]
}

#[test]
fn local_ready_addresses_are_counted_once() {
    let slices = [
        slice(
            "web-1",
            "web",
            json!([ready("10.1.0.1", "us"), ready("10.1.0.2", "us"), ready("10.1.0.3", "them")]),
        ),
        slice("web-2", "web", json!([ready("10.1.0.1", "us"), terminating("10.1.0.4", "us", true)])),
    ];
    assert_eq!(told(slices.into_iter().chain([checked(json!({}))])), answer(2));
}

#[test]
fn terminating_endpoints_drain_the_load_balancer() {
    assert_eq!(
        told([checked(json!({})), slice("web-1", "web", json!([terminating("10.1.0.1", "us", true)]))]),
        answer(0)
    );
}

#[test]
fn a_dual_stack_pod_is_one_pod() {
    let families = json!({"clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]});
    let v6 = json!({"addressType": "IPv6", "endpoints": [ready("fd01::1", "us")]});
    let slices = [slice("web-4", "web", json!([ready("10.1.0.1", "us")])), slice_with("web-6", "web", v6)];
    assert_eq!(told(slices.into_iter().chain([checked(families)])), answer(1));
}

#[test]
fn only_load_balancers_with_policy_local_have_one() {
    for spec in [
        json!({"externalTrafficPolicy": "Cluster"}),
        json!({"type": "NodePort"}),
        json!({"healthCheckNodePort": 0}),
    ] {
        assert_eq!(told([checked(spec.clone())]), [], "{spec}");
    }
}

#[test]
fn it_is_told_of_changes_alone() {
    let mut proxy = Proxy::with([checked(json!({}))]);
    let one = || slice("web-1", "web", json!([ready("10.1.0.1", "us")]));
    assert_eq!(proxy.tell(one()).health_checks.len(), 1);
    assert!(proxy.tell(one()).health_checks.is_empty());
    assert!(proxy.tell(slice("web-2", "web", json!([ready("10.1.0.2", "them")]))).health_checks.is_empty());
    let delta = proxy.tell(deleted(Kind::Service, "web"));
    assert_eq!(delta.health_checks.len(), 1);
    assert_eq!(delta.health_checks[0].1, None);
}
