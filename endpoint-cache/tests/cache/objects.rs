//! Objects and a cache in few words.

use std::sync::Arc;

use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use endpoint_cache::{Cache, Delta, Endpoint, Family, ServicePort, Update};
use serde_json::{Value, json};

/// The name of the own node.
pub(crate) const NODE: &str = "us";

/// A cache that is asked for its delta after every update.
pub(crate) struct Proxy {
    pub(crate) cache: Cache,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        Self { cache: Cache::new(NODE) }
    }

    /// A proxy that was told all this at once.
    pub(crate) fn with(updates: impl IntoIterator<Item = Update>) -> Self {
        let mut proxy = Self::new();
        proxy.tell_all(updates);
        proxy
    }

    pub(crate) fn tell(&mut self, update: Update) -> Delta {
        self.tell_all([update])
    }

    pub(crate) fn tell_all(&mut self, updates: impl IntoIterator<Item = Update>) -> Delta {
        updates.into_iter().for_each(|update| self.cache.apply(update));
        self.cache.take_delta()
    }

    /// The port of this text form (`ns/name` or `ns/name:port`) in a family.
    pub(crate) fn find(&self, name: &str, family: Family) -> Option<Arc<ServicePort>> {
        let ports = self.cache.desired().service_ports;
        ports.into_iter().find(|port| port.name.to_string() == name && port.family == family)
    }

    /// The IPv4 port of this name, which must be there.
    pub(crate) fn v4(&self, name: &str) -> Arc<ServicePort> {
        self.find(name, Family::V4).unwrap_or_else(|| panic!("{name} is not served"))
    }

    /// The IPv6 port of this name, which must be there.
    pub(crate) fn v6(&self, name: &str) -> Arc<ServicePort> {
        self.find(name, Family::V6).unwrap_or_else(|| panic!("{name} is not served"))
    }

    /// Names of everything served, with the family.
    pub(crate) fn served(&self) -> Vec<String> {
        let ports = self.cache.desired().service_ports;
        ports.iter().map(|port| format!("{} {}/{}", port.name, port.family, port.name.protocol)).collect()
    }
}

/// A Service in namespace `ns`.
pub(crate) fn service(name: &str, spec: Value) -> Update {
    labelled_service(name, json!({}), spec)
}

pub(crate) fn labelled_service(name: &str, labels: Value, spec: Value) -> Update {
    let metadata = json!({"name": name, "namespace": "ns", "labels": labels});
    service_object(json!({"metadata": metadata, "spec": spec}))
}

/// A Service from a whole object.
pub(crate) fn service_object(object: Value) -> Update {
    Update::Service(serde_json::from_value(object).expect("a Service"))
}

/// A ClusterIP Service with port 80/TCP.
pub(crate) fn plain(name: &str, cluster_ip: &str) -> Update {
    service(name, json!({"clusterIP": cluster_ip, "ports": [{"port": 80}]}))
}

/// A LoadBalancer Service at 10.0.0.1:80, node port 30080, 192.0.2.1.
pub(crate) fn load_balancer(name: &str, extra: Value) -> Update {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    merge(&mut object, extra);
    service_object(object)
}

/// Lays one JSON object over another.
fn merge(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            extra.into_iter().for_each(|(key, value)| merge(base.entry(key).or_insert(Value::Null), value));
        }
        (base, extra) => *base = extra,
    }
}

/// An IPv4 slice of a Service, its unnamed port being 8080/TCP.
pub(crate) fn slice(name: &str, of: &str, endpoints: Value) -> Update {
    slice_with(name, of, json!({"endpoints": endpoints}))
}

/// The same, with fields laid over it.
pub(crate) fn slice_with(name: &str, of: &str, extra: Value) -> Update {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
    });
    merge(&mut object, extra);
    Update::EndpointSlice(serde_json::from_value(object).expect("an EndpointSlice"))
}

/// An endpoint that is ready.
pub(crate) fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
}

/// An endpoint that is terminating, and serves or not.
pub(crate) fn terminating(address: &str, node: &str, serving: bool) -> Value {
    let conditions = json!({"ready": false, "serving": serving, "terminating": true});
    json!({"addresses": [address], "nodeName": node, "conditions": conditions})
}

/// The own Node in a zone.
pub(crate) fn node_in(zone: &str) -> Update {
    node(json!({"metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}}}))
}

pub(crate) fn node(object: Value) -> Update {
    Update::Node(serde_json::from_value(object).expect("a Node"))
}

pub(crate) fn service_cidr(name: &str, cidrs: Value) -> Update {
    let object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    Update::ServiceCidr(serde_json::from_value(object).expect("a ServiceCIDR"))
}

pub(crate) fn deleted(kind: Kind, name: &str) -> Update {
    let namespace = if matches!(kind, Kind::Service | Kind::EndpointSlice) { "ns" } else { "" };
    Update::Deleted(ObjectRef { kind, name: ObjectName::new(namespace, name) })
}

/// Endpoints as `address:port`.
pub(crate) fn texts(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| std::net::SocketAddr::new(e.address, e.port).to_string()).collect()
}
