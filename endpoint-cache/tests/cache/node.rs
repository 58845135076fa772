//! The own Node and the ranges of ClusterIPs.

use endpoint_cache::Update::{ListBegins, ListEnds};
use endpoint_cache::object::Kind;
use endpoint_cache::{Eligibility, NodeState};
use serde_json::json;

use crate::objects::*;

#[test]
fn internal_addresses_come_before_external_ones() {
    let mut proxy = Proxy::new();
    let delta = proxy.tell(node(json!({
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.2.0.0/24", "fd02::/64"]},
        "status": {"addresses": [
            {"type": "ExternalIP", "address": "198.51.100.1"},
            {"type": "Hostname", "address": NODE},
            {"type": "InternalIP", "address": "192.168.0.2"},
            {"type": "InternalIP", "address": "fd00::2"},
        ]},
    })));
    let state = delta.node.expect("changed");
    let addresses: Vec<_> = state.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.168.0.2", "fd00::2", "198.51.100.1"]);
    let cidrs: Vec<_> = state.pod_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["10.2.0.0/24", "fd02::/64"]);
    assert_eq!(state.zone.as_deref(), Some("a"));
    assert!(delta.problems.is_empty());
    assert_eq!(*proxy.cache.desired().node, *state);
}

#[test]
fn the_single_pod_range_of_old_is_read() {
    let mut proxy = Proxy::new();
    let delta = proxy.tell(node(json!({"metadata": {"name": NODE}, "spec": {"podCIDR": "10.2.0.0/24"}})));
    assert_eq!(delta.node.expect("changed").pod_cidrs.len(), 1);
}

#[test]
fn other_nodes_do_not_matter() {
    let mut proxy = Proxy::with([node_in("a")]);
    let other = json!({"metadata": {"name": "them", "labels": {"topology.kubernetes.io/zone": "b"}},
        "spec": {"podCIDR": "nonsense"}});
    let delta = proxy.tell(node(other));
    assert!(delta.is_empty() && delta.problems.is_empty());
    assert!(proxy.tell(deleted(Kind::Node, "them")).is_empty());
    assert_eq!(proxy.cache.desired().node.zone.as_deref(), Some("a"));
}

#[test]
fn a_deleted_node_leaves_nothing() {
    let mut proxy = Proxy::with([node_in("a")]);
    let delta = proxy.tell(deleted(Kind::Node, NODE));
    assert_eq!(delta.node.as_deref(), Some(&NodeState::default()));
    assert!(delta.changes_node());
}

/// A Node with further fields of its metadata and taints.
fn marked(name: &str, deleted: Option<&str>, taint: &str) -> endpoint_cache::Update {
    node(json!({
        "metadata": {"name": name, "deletionTimestamp": deleted},
        "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}, {"key": taint, "effect": "NoSchedule"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]},
    }))
}

#[test]
fn a_node_that_is_to_go_is_not_eligible_and_nothing_is_programmed_for_it() {
    let mut proxy = Proxy::with([marked(NODE, None, "another")]);
    assert_eq!(proxy.cache.eligibility(), Eligibility::Eligible);
    for (deleted, taint, expected) in [
        (None, "ToBeDeletedByClusterAutoscaler", Eligibility::ToBeDeleted),
        (Some("2026-01-02T03:04:05Z"), "another", Eligibility::BeingDeleted),
        (None, "another", Eligibility::Eligible),
    ] {
        assert!(proxy.tell(marked(NODE, deleted, taint)).is_empty());
        assert_eq!(proxy.cache.eligibility(), expected);
        assert_eq!(expected.is_eligible(), expected == Eligibility::Eligible);
    }
    proxy.tell(marked("them", None, "ToBeDeletedByClusterAutoscaler"));
    assert_eq!(proxy.cache.eligibility(), Eligibility::Eligible);
}

#[test]
fn a_node_is_missing_only_once_nodes_were_listed() {
    let mut proxy = Proxy::new();
    assert_eq!(proxy.cache.eligibility(), Eligibility::Unknown);
    proxy.tell_all([marked(NODE, None, ""), deleted(Kind::Node, NODE)]);
    assert_eq!(proxy.cache.eligibility(), Eligibility::Unknown, "as with manifests");
    proxy.tell_all([ListBegins(Kind::Node), ListEnds(Kind::Node)]);
    assert_eq!(proxy.cache.eligibility(), Eligibility::Missing);
    proxy.tell(marked(NODE, None, ""));
    assert_eq!(proxy.cache.eligibility(), Eligibility::Eligible);
    proxy.tell(deleted(Kind::Node, NODE));
    assert_eq!(proxy.cache.eligibility(), Eligibility::Missing);
}

#[test]
fn a_list_without_the_node_takes_away_also_one_that_says_nothing() {
    let mut proxy = Proxy::with([node(json!({"metadata": {"name": NODE}}))]);
    assert_eq!(proxy.cache.eligibility(), Eligibility::Eligible);
    proxy.tell_all([ListBegins(Kind::Node), ListEnds(Kind::Node)]);
    assert_eq!(proxy.cache.eligibility(), Eligibility::Missing);
}

#[test]
fn a_name_in_another_case_is_the_same_node() {
    let upper = NODE.to_uppercase();
    let mut proxy = Proxy::with([marked(&upper, None, "")]);
    assert_eq!(proxy.cache.node().addresses.len(), 1);
    proxy.tell_all([ListBegins(Kind::Node), marked(&upper, None, ""), ListEnds(Kind::Node)]);
    assert_eq!((proxy.cache.eligibility(), proxy.cache.node().addresses.len()), (Eligibility::Eligible, 1));
}

#[test]
fn ranges_of_all_objects_are_one_disjoint_list() {
    let mut proxy = Proxy::with([service_cidr("a", json!(["10.0.0.0/16", "fd00::/112"]))]);
    let delta = proxy.tell(service_cidr("b", json!(["10.0.128.0/17", "172.30.0.0/16"])));
    let texts = |delta: &endpoint_cache::Delta| -> Vec<_> {
        delta.service_cidrs.iter().flat_map(|ranges| ranges.iter().map(ToString::to_string)).collect()
    };
    assert_eq!(texts(&delta), ["10.0.0.0/16", "172.30.0.0/16", "fd00::/112"]);
    assert_eq!(texts(&proxy.tell(deleted(Kind::ServiceCidr, "a"))), ["10.0.128.0/17", "172.30.0.0/16"]);
    assert!(proxy.tell(service_cidr("b", json!(["172.30.0.0/16", "10.0.128.0/17"]))).is_empty());
    assert_eq!(proxy.cache.desired().service_cidrs.len(), 2);
}
