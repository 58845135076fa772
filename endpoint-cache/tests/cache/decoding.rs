//! Objects as API servers and people write them.

use endpoint_cache::object::{EndpointSlice, Kind, Node, ObjectName, ObjectRef, Service, ServiceCidr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What is left of an object after reading and writing it.
fn round_trip<T: DeserializeOwned + Serialize>(object: Value) -> Value {
    let object: T = serde_json::from_value(object).expect("readable");
    serde_json::to_value(object).expect("writable")
}

#[test]
fn what_is_read_is_written_the_same() {
    let service = json!({
        "metadata": {
            "name": "web", "namespace": "ns", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "creationTimestamp": "2024-01-01T00:00:00Z", "deletionTimestamp": "2024-01-02T00:00:00Z",
            "resourceVersion": "7",
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}],
            "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "healthCheckNodePort": 32000,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
    });
    assert_eq!(round_trip::<Service>(service.clone()), service);
    let slice = json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "us", "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "us"}]},
        }],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    });
    assert_eq!(round_trip::<EndpointSlice>(slice.clone()), slice);
    let node = json!({
        "metadata": {"name": "us"},
        "spec": {"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.2.0.0/24"], "taints": [{"key": "k", "effect": "NoExecute"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]},
    });
    assert_eq!(round_trip::<Node>(node.clone()), node);
    let cidr = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.0.0.0/16"]}});
    assert_eq!(round_trip::<ServiceCidr>(cidr.clone()), cidr);
}

/// The object with every leaf and every list, map and string `null`.
fn nulls(fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn null_means_not_given() {
    let metadata =
        nulls(&["name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"]);
    let spec = nulls(&[
        "type",
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ports",
        "externalIPs",
        "sessionAffinity",
        "sessionAffinityConfig",
        "externalTrafficPolicy",
        "internalTrafficPolicy",
        "loadBalancerSourceRanges",
        "healthCheckNodePort",
    ]);
    let read = |object: Value| serde_json::from_value::<Service>(object).expect("readable");
    assert_eq!(
        read(json!({"metadata": metadata, "spec": spec, "status": {"loadBalancer": null}})),
        Service::default()
    );
    assert_eq!(read(json!({"metadata": null, "spec": null, "status": null})), Service::default());
    let port = json!({"spec": {"ports": [nulls(&["name", "protocol", "port", "nodePort"])]}});
    assert_eq!(read(port).spec.ports, [Default::default()]);
    let endpoint = nulls(&["addresses", "conditions", "nodeName", "hints"]);
    let slice = json!({"endpoints": [endpoint], "ports": [nulls(&["name", "protocol", "port"])]});
    let slice: EndpointSlice = serde_json::from_value(slice).expect("readable");
    assert_eq!(slice.endpoints, [Default::default()]);
    assert_eq!(slice.ports, [Default::default()]);
    let node: Node =
        serde_json::from_value(json!({"spec": null, "status": {"addresses": null}})).expect("readable");
    assert_eq!(node, Node::default());
    let cidr: ServiceCidr = serde_json::from_value(json!({"spec": {"cidrs": null}})).expect("readable");
    assert_eq!(cidr, ServiceCidr::default());
}

#[test]
fn unknown_fields_are_passed_over() {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "managedFields": []},
        "spec": {"selector": {"app": "web"}, "trafficDistribution": "PreferClose"}});
    let service: Service = serde_json::from_value(object).expect("readable");
    assert_eq!(service.object_name(), ObjectName::new("default", "web"));
}

#[test]
fn names_as_people_write_them() {
    let service = ObjectRef { kind: Kind::Service, name: ObjectName::new("ns", "web") };
    assert_eq!(service.to_string(), "Service ns/web");
    let node = ObjectRef { kind: Kind::Node, name: ObjectName::new("", "us") };
    assert_eq!(node.to_string(), "Node us");
    assert_eq!(Kind::ServiceCidr.to_string(), "ServiceCIDR");
    assert_eq!(Kind::EndpointSlice.to_string(), "EndpointSlice");
}
