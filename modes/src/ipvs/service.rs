//! What one service port contributes. A pure function: two states of a service port are compared by comparing what it
//! gives for each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::{Endpoint, Protocol, ServicePort, Traffic, TrafficPolicy};
use kernel::ipset::Entry;
use kernel::ipvs::{Frontend, Target};

use super::sets::SetName;
use super::surroundings::Surroundings;

/// Everything that is in the kernel for a service port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) servers: BTreeMap<Frontend, Served>,
    /// Addresses that the node must take for its own.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) entries: BTreeSet<(SetName, Entry)>,
}

/// What a virtual server does with its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// For how many seconds a client stays with its endpoint.
    pub(super) affinity_seconds: Option<u32>,
    /// Where they go. Sorted by address and port.
    pub(super) endpoints: Arc<[Endpoint]>,
    /// Where they may stay. Sorted likewise.
    pub(super) serving: Arc<[Endpoint]>,
}

impl Served {
    /// Whether an endpoint still answers, though it may get nothing new.
    pub(super) fn may_keep(&self, target: Target) -> bool {
        let key = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
        self.serving.binary_search_by_key(&(target.address, target.port), key).is_ok()
    }
}

/// What a service port contributes.
pub(super) fn of(service: &ServicePort, surroundings: &Surroundings) -> Contribution {
    let mut writer = Writer { service, surroundings, out: Contribution::default() };
    writer.cluster_ip();
    writer.external_addresses();
    writer.node_port();
    writer.health_check();
    writer.endpoints();
    writer.out
}

struct Writer<'a> {
    service: &'a ServicePort,
    surroundings: &'a Surroundings,
    out: Contribution,
}

impl Writer<'_> {
    fn cluster_ip(&mut self) {
        let service = self.service;
        let (address, port) = (service.cluster_ip, service.port);
        let endpoints = match service.internal_policy {
            TrafficPolicy::Cluster => &service.cluster_endpoints,
            TrafficPolicy::Local => &service.local_endpoints,
        };
        self.enter(SetName::ClusterIp, self.ip_port(address, port));
        if service.internal_traffic() == Traffic::Drop {
            self.enter(SetName::NoLocalInternal, self.ip_port(address, port));
        }
        self.serve(address, port, endpoints);
        self.bind(address);
    }

    /// External and load-balancer addresses that are not the ClusterIP itself.
    fn external_addresses(&mut self) {
        let service = self.service;
        let local = service.external_policy == TrafficPolicy::Local;
        for address in service.external_addresses().filter(|ip| *ip != service.cluster_ip) {
            let entry = self.ip_port(address, service.port);
            if service.external_ips.binary_search(&address).is_ok() {
                self.enter(if local { SetName::ExternalIpLocal } else { SetName::ExternalIp }, entry);
            }
            if service.load_balancer_ips.binary_search(&address).is_ok() {
                self.enter(SetName::LoadBalancer, entry);
                if local {
                    self.enter(SetName::LoadBalancerLocal, entry);
                }
                self.source_ranges(address, entry);
            }
            self.serve_outside(address, service.port);
            self.bind(address);
        }
    }

    fn source_ranges(&mut self, address: IpAddr, entry: Entry) {
        let (service, surroundings) = (self.service, self.surroundings);
        let Some(ranges) = service.source_ranges.as_deref() else { return };
        self.enter(SetName::LoadBalancerFw, entry);
        let (protocol, port) = (service.name.protocol.number(), service.port);
        for range in ranges {
            let (net, prefix) = (range.network(), range.prefix_len());
            self.enter(
                SetName::LoadBalancerSourceCidr,
                Entry::IpPortNet { address, protocol, port, net, prefix },
            );
        }
        // The node, which holds the address itself, uses it as its source.
        let nodes = &surroundings.common.node_addresses;
        if nodes.iter().any(|node| ranges.iter().any(|range| range.contains(node))) {
            let other = address;
            self.enter(SetName::LoadBalancerSourceIp, Entry::IpPortIp { address, protocol, port, other });
        }
    }

    fn node_port(&mut self) {
        let (service, surroundings) = (self.service, self.surroundings);
        let Some(port) = service.node_port else { return };
        let (protocol, local) = (service.name.protocol, service.external_policy == TrafficPolicy::Local);
        let sets = [Some(SetName::NodePort(protocol)), local.then_some(SetName::NodePortLocal(protocol))];
        for set in sets.into_iter().flatten() {
            if protocol == Protocol::Sctp {
                // There is no bitmap for it.
                for address in &surroundings.node_ports {
                    self.enter(set, self.ip_port(*address, port));
                }
            } else {
                self.enter(set, Entry::Port(port));
            }
        }
        for address in &surroundings.node_ports {
            self.serve_outside(*address, port);
        }
    }

    /// Whoever asks for a node's health must get through to it.
    fn health_check(&mut self) {
        if let Some(port) = self.service.health_check_node_port {
            self.enter(SetName::HealthCheckNodePort, Entry::Port(port));
        }
    }

    /// An endpoint that is sent to itself must see another address than its own.
    fn endpoints(&mut self) {
        let service = self.service;
        let protocol = service.name.protocol.number();
        let used = [TrafficPolicy::Cluster, TrafficPolicy::Local]
            .into_iter()
            .flat_map(|policy| service.endpoints_in_use(policy));
        for Endpoint { address, port, .. } in used.filter(|endpoint| endpoint.local).copied() {
            let other = address;
            self.enter(SetName::LoopBack, Entry::IpPortIp { address, protocol, port, other });
        }
    }

    /// Serves what comes to the node port, or to an external or load-balancer address. Where policy Local has no
    /// endpoint here, outsiders are kept away by the rules; this node and its pods may go to any.
    fn serve_outside(&mut self, address: IpAddr, port: u16) {
        let service = self.service;
        let endpoints = match (service.external_policy, service.local_endpoints.is_empty()) {
            (TrafficPolicy::Local, false) => &service.local_endpoints,
            (TrafficPolicy::Local, true) | (TrafficPolicy::Cluster, _) => &service.cluster_endpoints,
        };
        if service.external_traffic() == Traffic::Drop {
            self.enter(SetName::NoLocalExternal, self.ip_port(address, port));
        }
        self.serve(address, port, endpoints);
    }

    fn serve(&mut self, address: IpAddr, port: u16, endpoints: &Arc<[Endpoint]>) {
        let service = self.service;
        let frontend = Frontend::Address { address, protocol: service.name.protocol.number(), port };
        let served = Served {
            affinity_seconds: service.affinity_seconds,
            endpoints: Arc::clone(endpoints),
            serving: Arc::clone(&service.serving_endpoints),
        };
        self.out.servers.insert(frontend, served);
    }

    /// The node must take an address for its own, or it would pass its packets on.
    fn bind(&mut self, address: IpAddr) {
        if !self.surroundings.local.contains(&address) {
            self.out.addresses.insert(address);
        }
    }

    fn ip_port(&self, address: IpAddr, port: u16) -> Entry {
        Entry::IpPort { address, protocol: self.service.name.protocol.number(), port }
    }

    fn enter(&mut self, set: SetName, entry: Entry) {
        self.out.entries.insert((set, entry));
    }
}
