//! What one service port contributes to the sets and maps, its endpoints' slots aside. A pure function: two states of
//! a service port are compared by comparing what it gives for each.

use std::net::IpAddr;

use endpoint_cache::{Endpoint, ServicePort, Traffic, TrafficPolicy};
use ipnet::IpNet;
use kernel::nft::{Bytes, Data, Element, Verdict};

use super::bytes::{self, Key};
use super::layout::{SetName, chain};
use super::pick::{Entry, Pick, Scope, ServiceChain};

/// An element, and the chain it leads to if that is one which exists for services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    pub(crate) set: SetName,
    pub(crate) element: Element,
    pub(crate) leads_to: Option<ServiceChain>,
}

/// Everything but endpoints by slot.
pub(crate) fn of(service: &ServicePort, node_addresses: &[IpAddr]) -> Vec<Item> {
    let mut items = Items { service, items: Vec::with_capacity(4) };
    items.cluster_ip();
    for ip in service.external_addresses().filter(|ip| *ip != service.cluster_ip) {
        items.external_ip(ip);
    }
    if let Some(ranges) = &service.source_ranges {
        for ip in service.load_balancer_ips.iter().filter(|ip| **ip != service.cluster_ip) {
            items.source_ranges(*ip, ranges, node_addresses);
        }
    }
    if let Some(port) = service.node_port {
        items.node_port(port);
    }
    items.hairpin();
    if service.affinity_seconds.is_some() {
        items.sticky(Scope::Cluster);
        items.sticky(Scope::Local);
    }
    items.items
}

/// Whether any frontend leads to the endpoints of a scope.
pub(crate) fn uses(service: &ServicePort, scope: Scope) -> bool {
    let external = service.externally_reachable();
    match scope {
        // External policy Local still sends pods and the node itself to any endpoint.
        Scope::Cluster => service.internal_policy == TrafficPolicy::Cluster || external,
        Scope::Local => {
            service.internal_policy == TrafficPolicy::Local
                || external && service.external_policy == TrafficPolicy::Local
        }
    }
}

/// The endpoints of a scope that are to stand in slots.
pub(crate) fn endpoints(service: &ServicePort, scope: Scope) -> &[Endpoint] {
    match (uses(service, scope), scope) {
        (false, _) => &[],
        (true, Scope::Cluster) => &service.cluster_endpoints,
        (true, Scope::Local) => &service.local_endpoints,
    }
}

/// The element for an endpoint in a slot.
pub(crate) fn slot(identity: &Key, slot: usize, endpoint: &Endpoint) -> Element {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    Element {
        key: identity.clone().slot(slot).bytes(),
        data: Data::Value(Key::default().endpoint(endpoint).bytes()),
        ..Element::default()
    }
}

struct Items<'a> {
    service: &'a ServicePort,
    items: Vec<Item>,
}

impl Items<'_> {
    fn cluster_ip(&mut self) {
        let service = self.service;
        self.push(SetName::ClusterIps, Key::default().address(service.cluster_ip).bytes(), Data::None, None);
        let scope = scope(service.internal_policy);
        let lead = match service.internal_traffic() {
            Traffic::To(endpoints) => {
                Lead::Chain(ServiceChain::Pick(self.pick(Entry::ClusterIp, scope, endpoints.len(), false)))
            }
            Traffic::Reject => Lead::Reject,
            Traffic::Drop => Lead::Drop,
        };
        self.lead(&bytes::identity(service), SetName::ServiceIps, SetName::NoEndpointServices, lead);
    }

    fn external_ip(&mut self, ip: IpAddr) {
        let frontend = bytes::frontend(ip, self.service);
        let maps = ExternalMaps {
            entry: Entry::ExternalIp,
            services: SetName::ServiceIps,
            identities: SetName::ExternalIps,
            local_policy: SetName::LocalPolicyIps,
            no_endpoints: SetName::NoEndpointServices,
        };
        self.external(&frontend, &maps);
    }

    fn node_port(&mut self, port: u16) {
        let frontend = bytes::node_port(port, self.service);
        let maps = ExternalMaps {
            entry: Entry::NodePort,
            services: SetName::ServiceNodePorts,
            identities: SetName::NodePortServices,
            local_policy: SetName::LocalPolicyNodePorts,
            no_endpoints: SetName::NoEndpointNodePorts,
        };
        self.external(&frontend, &maps);
    }

    fn external(&mut self, frontend: &Key, maps: &ExternalMaps) {
        let service = self.service;
        let (anywhere, here) = (service.cluster_endpoints.len(), service.local_endpoints.len());
        if anywhere == 0 && here == 0 {
            return self.lead(frontend, maps.services, maps.no_endpoints, Lead::Reject);
        }
        let identity = Data::Value(bytes::identity(service).bytes());
        self.push(maps.identities, frontend.clone().bytes(), identity, None);
        let lead = match service.external_policy {
            TrafficPolicy::Cluster => {
                ServiceChain::Pick(self.pick(maps.entry, Scope::Cluster, anywhere, true))
            }
            TrafficPolicy::Local => {
                let shortcut = ServiceChain::Pick(self.pick(maps.entry, Scope::Cluster, anywhere, false));
                self.lead(frontend, maps.local_policy, maps.no_endpoints, Lead::Chain(shortcut));
                ServiceChain::LocalPolicy(self.pick(maps.entry, Scope::Local, here, false))
            }
        };
        self.lead(frontend, maps.services, maps.no_endpoints, Lead::Chain(lead));
        if service.external_traffic() == Traffic::Drop {
            self.lead(frontend, maps.services, maps.no_endpoints, Lead::Drop);
        }
    }

    fn source_ranges(&mut self, ip: IpAddr, ranges: &[IpNet], node_addresses: &[IpAddr]) {
        let frontend = bytes::frontend(ip, self.service);
        self.push(SetName::FirewallIps, frontend.clone().bytes(), Data::None, None);
        // A node that holds the address itself may use it as its source.
        let node_allowed = node_addresses.iter().any(|node| ranges.iter().any(|range| range.contains(node)));
        let own = (node_allowed && !ranges.iter().any(|range| range.contains(&ip))).then(|| IpNet::from(ip));
        for range in ranges.iter().copied().chain(own) {
            let element = Element {
                key: frontend.clone().address(range.network()).bytes(),
                key_end: Some(frontend.clone().address(last_address(range)).bytes()),
                ..Element::default()
            };
            self.items.push(Item { set: SetName::FirewallSources, element, leads_to: None });
        }
    }

    fn hairpin(&mut self) {
        let service = self.service;
        let mut local: Vec<_> = [Scope::Cluster, Scope::Local]
            .into_iter()
            .flat_map(|scope| endpoints(service, scope))
            .filter(|endpoint| endpoint.local)
            .collect();
        local.sort_unstable();
        local.dedup();
        for endpoint in local {
            let pod = Key::default().address(endpoint.address);
            let key = pod.address(endpoint.address).protocol(service.name.protocol).port(endpoint.port);
            self.push(SetName::HairpinConnections, key.bytes(), Data::None, None);
        }
    }

    fn sticky(&mut self, scope: Scope) {
        for endpoint in endpoints(self.service, scope) {
            let key = bytes::identity(self.service).endpoint(endpoint);
            self.push(scope.sticky(), key.bytes(), Data::None, None);
        }
    }

    fn pick(&self, entry: Entry, scope: Scope, count: usize, masquerade: bool) -> Pick {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Pick { entry, scope, count, affinity: self.service.affinity_seconds, masquerade }
    }

    fn lead(&mut self, frontend: &Key, services: SetName, no_endpoints: SetName, lead: Lead) {
        let (set, verdict, chain) = match lead {
            Lead::Chain(chain) => (services, Verdict::Goto(chain.to_string()), Some(chain)),
            Lead::Reject => (no_endpoints, Verdict::Goto(chain::REJECT.to_owned()), None),
            Lead::Drop => (no_endpoints, Verdict::Drop, None),
        };
        let element = Element {
            key: frontend.clone().bytes(),
            data: Data::Verdict(verdict),
            comment: Some(self.service.name.to_string()),
            ..Element::default()
        };
        self.items.push(Item { set, element, leads_to: chain });
    }

    fn push(&mut self, set: SetName, key: Bytes, data: Data, leads_to: Option<ServiceChain>) {
        self.items.push(Item { set, element: Element { key, data, ..Element::default() }, leads_to });
    }
}

/// The maps for one kind of external frontend.
struct ExternalMaps {
    entry: Entry,
    services: SetName,
    identities: SetName,
    local_policy: SetName,
    no_endpoints: SetName,
}

enum Lead {
    Chain(ServiceChain),
    Reject,
    Drop,
}

fn scope(policy: TrafficPolicy) -> Scope {
    match policy {
        TrafficPolicy::Cluster => Scope::Cluster,
        TrafficPolicy::Local => Scope::Local,
    }
}

fn last_address(range: IpNet) -> IpAddr {
    match range {
        IpNet::V4(range) => range.broadcast().into(),
        IpNet::V6(range) => range.broadcast().into(),
    }
}
