//! The Kubernetes objects that the proxy serves, written as it finds them: in a folder of manifests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::bed::{Family, Pod};
use crate::place::Protocol;

/// All objects. Written out whole at every change, as one file.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    services: BTreeMap<String, Service>,
    slices: BTreeMap<String, Slice>,
    others: BTreeMap<String, Value>,
}

impl Cluster {
    /// Adds or replaces a Service.
    pub fn put(&mut self, service: Service) -> &mut Self {
        self.services.insert(service.name.clone(), service);
        self
    }

    /// Adds or replaces an EndpointSlice.
    pub fn put_slice(&mut self, slice: Slice) -> &mut Self {
        self.slices.insert(slice.name.clone(), slice);
        self
    }

    /// Adds or replaces an object of another kind.
    pub fn put_other(&mut self, name: &str, object: Value) -> &mut Self {
        self.others.insert(name.to_owned(), object);
        self
    }

    /// Removes a Service.
    pub fn delete(&mut self, name: &str) -> &mut Self {
        self.services.remove(name);
        self
    }

    /// Removes the objects of other kinds whose names here begin so.
    pub fn delete_others_with(&mut self, prefix: &str) -> &mut Self {
        self.others.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// Removes an object of another kind.
    pub fn delete_other(&mut self, name: &str) -> &mut Self {
        self.others.remove(name);
        self
    }

    /// Removes an EndpointSlice.
    pub fn delete_slice(&mut self, name: &str) -> &mut Self {
        self.slices.remove(name);
        self
    }

    /// A Service to change.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn service(&mut self, name: &str) -> &mut Service {
        self.services.get_mut(name).unwrap_or_else(|| panic!("no Service {name}"))
    }

    /// An EndpointSlice to change.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn slice(&mut self, name: &str) -> &mut Slice {
        self.slices.get_mut(name).unwrap_or_else(|| panic!("no EndpointSlice {name}"))
    }

    /// What `kubectl get -o json` would print.
    #[must_use]
    pub fn manifest(&self) -> String {
        let services = self.services.values().map(Service::to_json);
        let slices = self.slices.values().map(Slice::to_json);
        let items: Vec<Value> = services.chain(slices).chain(self.others.values().cloned()).collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
    }
}

/// The own Node, with its addresses, pod ranges and zone.
#[must_use]
pub fn node(zone: Option<&str>, addresses: &[IpAddr], pod_cidrs: &[&str]) -> Value {
    let addresses: Vec<Value> =
        addresses.iter().map(|ip| json!({ "type": "InternalIP", "address": ip.to_string() })).collect();
    let labels: Map<String, Value> =
        zone.map(|zone| ("topology.kubernetes.io/zone".to_owned(), json!(zone))).into_iter().collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "node", "labels": labels },
        "spec": { "podCIDRs": pod_cidrs },
        "status": { "addresses": addresses },
    })
}

/// Where ClusterIPs are allocated from.
#[must_use]
pub fn service_cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": name }, "spec": { "cidrs": cidrs },
    })
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Name.
    pub name: String,
    /// Protocol, as Kubernetes writes it.
    pub protocol: &'static str,
    /// Port that clients connect to.
    pub port: u16,
    /// Node port, 0 for none.
    pub node_port: u16,
}

/// A Service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.type`; `ClusterIP`, or what the other fields make necessary, if empty.
    pub service_type: String,
    /// ClusterIPs as text, so that `None` can be said.
    pub cluster_ips: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// External IPs.
    pub external_ips: Vec<String>,
    /// Load-balancer addresses with their `ipMode`.
    pub load_balancer: Vec<(String, Option<&'static str>)>,
    /// Who may use them.
    pub source_ranges: Vec<String>,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// Session affinity and its timeout in seconds.
    pub affinity: Option<u32>,
    /// `metadata.creationTimestamp`
    pub created: Option<&'static str>,
    /// `spec.healthCheckNodePort`, 0 for none.
    pub health_check_node_port: u16,
}

impl Service {
    /// A Service with a ClusterIP and no ports yet.
    #[must_use]
    pub fn new(name: &str, cluster_ip: IpAddr) -> Self {
        Self { name: name.to_owned(), cluster_ips: vec![cluster_ip.to_string()], ..Self::default() }
    }

    /// Adds the ClusterIP of the other family.
    #[must_use]
    pub fn dual_stack(mut self, cluster_ip: IpAddr) -> Self {
        self.cluster_ips.push(cluster_ip.to_string());
        self
    }

    /// Adds a TCP port.
    #[must_use]
    pub fn tcp(self, name: &str, port: u16) -> Self {
        self.port(name, "TCP", port)
    }

    /// Adds a UDP port.
    #[must_use]
    pub fn udp(self, name: &str, port: u16) -> Self {
        self.port(name, "UDP", port)
    }

    /// Adds an SCTP port.
    #[must_use]
    pub fn sctp(self, name: &str, port: u16) -> Self {
        self.port(name, "SCTP", port)
    }

    /// Adds a port.
    #[must_use]
    pub fn port(mut self, name: &str, protocol: &'static str, port: u16) -> Self {
        self.ports.push(ServicePort { name: name.to_owned(), protocol, port, node_port: 0 });
        self
    }

    /// Gives every port a node port: this one and those that follow; the same for a port number in two protocols.
    #[must_use]
    pub fn node_port(mut self, first: u16) -> Self {
        let base = self.ports.first().map_or(0, |port| port.port);
        for port in &mut self.ports {
            port.node_port = first + (port.port - base);
        }
        self
    }

    /// Adds an external IP.
    #[must_use]
    pub fn external_ip(mut self, ip: IpAddr) -> Self {
        self.external_ips.push(ip.to_string());
        self
    }

    /// Adds a load-balancer address.
    #[must_use]
    pub fn load_balancer_ip(mut self, ip: IpAddr) -> Self {
        self.load_balancer.push((ip.to_string(), None));
        self
    }

    /// Restricts who may use the load-balancer addresses.
    #[must_use]
    pub fn source_range(mut self, range: &str) -> Self {
        self.source_ranges.push(range.to_owned());
        self
    }

    /// `externalTrafficPolicy: Local`
    #[must_use]
    pub fn external_local(mut self) -> Self {
        self.external_local = true;
        self
    }

    /// `internalTrafficPolicy: Local`
    #[must_use]
    pub fn internal_local(mut self) -> Self {
        self.internal_local = true;
        self
    }

    /// `sessionAffinity: ClientIP`
    #[must_use]
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity = Some(seconds);
        self
    }

    /// `healthCheckNodePort`
    #[must_use]
    pub fn health_check_node_port(mut self, port: u16) -> Self {
        self.health_check_node_port = port;
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    fn effective_type(&self) -> &str {
        match self.service_type.as_str() {
            "" if !self.load_balancer.is_empty() => "LoadBalancer",
            "" if self.ports.iter().any(|port| port.node_port != 0) => "NodePort",
            "" => "ClusterIP",
            given => given,
        }
    }

    /// The object, as an API server would hold it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let policy = |local| if local { "Local" } else { "Cluster" };
        let families: Vec<&str> =
            self.cluster_ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
        let ports: Vec<Value> = self.ports.iter().map(ServicePort::to_json).collect();
        let ingress: Vec<Value> =
            self.load_balancer.iter().map(|(ip, mode)| json!({ "ip": ip, "ipMode": mode })).collect();
        let affinity = self.affinity.map(|seconds| json!({ "clientIP": { "timeoutSeconds": seconds } }));
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": "test", "labels": self.labels, "creationTimestamp": self.created,
                "annotations": self.annotations,
            },
            "spec": {
                "type": self.effective_type(),
                "clusterIP": self.cluster_ips.first(), "clusterIPs": self.cluster_ips, "ipFamilies": families,
                "ports": ports,
                "externalIPs": self.external_ips,
                "loadBalancerSourceRanges": self.source_ranges,
                "externalTrafficPolicy": policy(self.external_local),
                "internalTrafficPolicy": policy(self.internal_local),
                "sessionAffinity": if self.affinity.is_some() { "ClientIP" } else { "None" },
                "sessionAffinityConfig": affinity,
                "healthCheckNodePort": self.health_check_node_port,
            },
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    }
}

impl ServicePort {
    fn to_json(&self) -> Value {
        let mut port = json!({ "name": self.name, "protocol": self.protocol, "port": self.port });
        if self.node_port != 0 {
            port["nodePort"] = json!(self.node_port);
        }
        port
    }
}

/// An endpoint of a slice.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// Pod address.
    pub address: String,
    /// Node's name.
    pub node: Option<String>,
    /// Conditions; `None` leaves them out.
    pub ready: Option<bool>,
    /// As `ready`.
    pub serving: Option<bool>,
    /// As `ready`.
    pub terminating: Option<bool>,
    /// Zones that it is meant for.
    pub zone_hints: Vec<&'static str>,
    /// Nodes that it is meant for.
    pub node_hints: Vec<&'static str>,
}

impl Endpoint {
    /// A pod, ready.
    #[must_use]
    pub fn of(pod: &Pod, family: Family) -> Self {
        Self { address: pod.ip(family).to_string(), node: Some(pod.node.to_owned()), ..Self::default() }
    }

    /// Neither ready nor serving.
    #[must_use]
    pub fn not_ready(mut self) -> Self {
        (self.ready, self.serving) = (Some(false), Some(false));
        self
    }

    /// On its way out, still answering.
    #[must_use]
    pub fn terminating(mut self) -> Self {
        (self.ready, self.serving, self.terminating) = (Some(false), Some(true), Some(true));
        self
    }

    /// On its way out, not answering.
    #[must_use]
    pub fn terminated(mut self) -> Self {
        (self.ready, self.serving, self.terminating) = (Some(false), Some(false), Some(true));
        self
    }

    /// Meant for a zone.
    #[must_use]
    pub fn for_zone(mut self, zone: &'static str) -> Self {
        self.zone_hints.push(zone);
        self
    }

    /// Meant for a node.
    #[must_use]
    pub fn for_node(mut self, node: &'static str) -> Self {
        self.node_hints.push(node);
        self
    }

    fn to_json(&self) -> Value {
        let named = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        let hinted = !self.zone_hints.is_empty() || !self.node_hints.is_empty();
        let hints = hinted
            .then(|| json!({ "forZones": named(&self.zone_hints), "forNodes": named(&self.node_hints) }));
        json!({
            "addresses": [self.address], "nodeName": self.node, "hints": hints,
            "conditions": { "ready": self.ready, "serving": self.serving, "terminating": self.terminating },
        })
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Name.
    pub name: String,
    /// The Service it belongs to.
    pub service: String,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: &'static str,
    /// Name, protocol and number of each port.
    pub ports: Vec<(String, &'static str, u16)>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// A slice of the Service of the same name, without ports.
    #[must_use]
    pub fn new(service: &str, family: Family, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            name: service.to_owned(),
            service: service.to_owned(),
            labels: BTreeMap::new(),
            address_type: family.name(),
            ports: Vec::new(),
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// Under another name, as the second slice of a Service.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds a port.
    #[must_use]
    pub fn port(mut self, name: &str, protocol: Protocol, number: u16) -> Self {
        self.ports.push((name.to_owned(), protocol.name(), number));
        self
    }

    /// The object, as an API server would hold it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let port = |(name, protocol, number): &(String, &str, u16)| json!({ "name": name, "protocol": protocol, "port": number });
        let mut labels = self.labels.clone();
        labels.insert("kubernetes.io/service-name".to_owned(), self.service.clone());
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": self.name, "namespace": "test", "labels": labels },
            "addressType": self.address_type,
            "ports": self.ports.iter().map(port).collect::<Vec<_>>(),
            "endpoints": self.endpoints.iter().map(Endpoint::to_json).collect::<Vec<_>>(),
        })
    }
}
