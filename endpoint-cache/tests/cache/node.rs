//! The own Node and the ranges of ClusterIPs.

use endpoint_cache::NodeState;
use endpoint_cache::object::Kind;
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
