//! What one service port contributes to the sets and maps. A pure function: two states of a service port are compared
//! by comparing what it gives for each.

use std::net::IpAddr;

use endpoint_cache::{Endpoint, ServicePort, Traffic, TrafficPolicy};
use ipnet::IpNet;
use kernel::nft::{Bytes, Data, Element, Verdict, listable};

use super::bytes::{self, Key};
use super::layout::SetName;
use super::pick::{Entry, Pick, PickKind, Scope};
use super::sticky;

/// An element, and the chain it leads to, if any: the chain's number is then its data, and not filled in yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    pub(crate) set: SetName,
    pub(crate) element: Element,
    pub(crate) leads_to: Option<Target>,
}

/// A chain that frontends lead to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// One for all services of a kind.
    Shared(Pick),
    /// One of this service's own, by name.
    Own(String),
}

impl Target {
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::Shared(pick) => pick.to_string(),
            Self::Own(chain) => chain.clone(),
        }
    }

    /// The verdict maps in which its number stands.
    pub(crate) fn signposts(&self) -> &'static [SetName] {
        match self {
            Self::Shared(pick) => pick.signposts(),
            Self::Own(_) => &[SetName::Picks],
        }
    }
}

/// Everything but endpoints by slot.
pub(crate) fn of(service: &ServicePort, node_addresses: &[IpAddr]) -> Vec<Item> {
    let mut items = Items { service, items: Vec::with_capacity(4) };
    items.cluster_ip();
    for ip in external_addresses(service) {
        items.external(&Maps::ADDRESS, &bytes::frontend(ip, service));
    }
    if let Some(port) = service.node_port {
        items.external(&Maps::NODE_PORT, &bytes::node_port(port, service));
    }
    if let Some(ranges) = &service.source_ranges {
        for ip in service.load_balancer_ips.iter().filter(|ip| **ip != service.cluster_ip) {
            items.source_ranges(*ip, ranges, node_addresses);
        }
    }
    items.hairpin();
    items.items
}

/// External and load-balancer addresses that are not the ClusterIP itself.
fn external_addresses(service: &ServicePort) -> impl Iterator<Item = IpAddr> + '_ {
    service.external_addresses().filter(|ip| *ip != service.cluster_ip)
}

/// The endpoints of a scope, if any frontend leads to them.
pub(crate) fn endpoints(service: &ServicePort, scope: Scope) -> &[Endpoint] {
    service.endpoints_in_use(scope.policy())
}

/// The maps in which a scope's endpoints are to stand, and under which frontends.
pub(crate) fn placements(service: &ServicePort, scope: Scope) -> Vec<(SetName, Key)> {
    let policy = scope.policy();
    let by_address = |ip| (scope.endpoints(Entry::Address), bytes::frontend(ip, service));
    let cluster_ip = by_address(service.cluster_ip);
    if service.affinity_seconds.is_some() {
        return vec![cluster_ip];
    }
    let mut places = Vec::with_capacity(1);
    if service.internal_policy == policy {
        places.push(cluster_ip);
    }
    if scope == Scope::Cluster || service.external_policy == policy {
        places.extend(external_addresses(service).map(by_address));
        let node_port = service.node_port.map(|port| bytes::node_port(port, service));
        places.extend(node_port.map(|frontend| (scope.endpoints(Entry::NodePort), frontend)));
    }
    places
}

/// The element for an endpoint in a slot.
pub(crate) fn slot(frontend: &Key, slot: usize, endpoint: &Endpoint) -> Element {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    Element {
        key: frontend.clone().slot(slot).bytes(),
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
        self.push(SetName::ClusterIps, Key::default().address(service.cluster_ip).bytes());
        let scope = match service.internal_policy {
            TrafficPolicy::Cluster => Scope::Cluster,
            TrafficPolicy::Local => Scope::Local,
        };
        let frontend = bytes::frontend(service.cluster_ip, service);
        match service.internal_traffic() {
            Traffic::To(endpoints) => self.lead(
                SetName::ServiceIps,
                &frontend,
                Entry::Address,
                PickKind::Plain(scope),
                endpoints.len(),
            ),
            Traffic::Reject => self.verdict(SetName::NoEndpointServices, &frontend, REJECT),
            Traffic::Drop => self.verdict(SetName::NoEndpointServices, &frontend, Verdict::Drop),
        }
    }

    fn external(&mut self, maps: &Maps, frontend: &Key) {
        let service = self.service;
        let (anywhere, here) = (service.cluster_endpoints.len(), service.local_endpoints.len());
        match service.external_traffic() {
            Traffic::Reject => return self.verdict(maps.no_endpoints, frontend, REJECT),
            Traffic::Drop => self.verdict(maps.no_endpoints, frontend, Verdict::Drop),
            Traffic::To(_) => {}
        }
        match service.external_policy {
            TrafficPolicy::Cluster => {
                self.lead(maps.services, frontend, maps.entry, PickKind::Masquerade, anywhere);
            }
            TrafficPolicy::Local => {
                self.lead(maps.services, frontend, maps.entry, PickKind::LocalPolicy, here);
                if service.affinity_seconds.is_none() {
                    let plain = PickKind::Plain(Scope::Cluster);
                    self.lead(maps.local_policy, frontend, maps.entry, plain, anywhere);
                }
            }
        }
    }

    fn source_ranges(&mut self, ip: IpAddr, ranges: &[IpNet], node_addresses: &[IpAddr]) {
        let frontend = bytes::frontend(ip, self.service);
        self.push(SetName::FirewallIps, frontend.clone().bytes());
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
        let mut local: Vec<_> = Scope::BOTH
            .into_iter()
            .flat_map(|scope| endpoints(service, scope))
            .filter(|endpoint| endpoint.local)
            .collect();
        local.sort_unstable();
        local.dedup();
        for endpoint in local {
            let pod = Key::default().address(endpoint.address);
            let key = pod.address(endpoint.address).protocol(service.name.protocol).port(endpoint.port);
            self.push(SetName::HairpinConnections, key.bytes());
        }
    }

    /// Leads a frontend to the chain that chooses an endpoint.
    fn lead(&mut self, map: SetName, frontend: &Key, entry: Entry, kind: PickKind, count: usize) {
        let target = if self.service.affinity_seconds.is_some() {
            let lead = match kind {
                PickKind::Plain(scope) => sticky::Lead::Endpoints(scope),
                PickKind::Masquerade => sticky::Lead::Masquerade,
                PickKind::LocalPolicy => sticky::Lead::LocalPolicy,
            };
            Target::Own(sticky::chain_name(self.service, lead))
        } else {
            Target::Shared(Pick::new(entry, kind, count))
        };
        self.push_named(map, frontend, Data::None, Some(target));
    }

    fn verdict(&mut self, map: SetName, frontend: &Key, verdict: Verdict) {
        self.push_named(map, frontend, Data::Verdict(verdict), None);
    }

    /// An element that is listed with the service's name.
    fn push_named(&mut self, set: SetName, frontend: &Key, data: Data, leads_to: Option<Target>) {
        let element = Element {
            key: frontend.clone().bytes(),
            data,
            comment: Some(listable(&self.service.name.to_string())),
            ..Element::default()
        };
        self.items.push(Item { set, element, leads_to });
    }

    fn push(&mut self, set: SetName, key: Bytes) {
        self.items.push(Item { set, element: Element { key, ..Element::default() }, leads_to: None });
    }
}

/// The maps for one kind of frontend.
struct Maps {
    entry: Entry,
    services: SetName,
    local_policy: SetName,
    no_endpoints: SetName,
}

impl Maps {
    const ADDRESS: Self = Self {
        entry: Entry::Address,
        services: SetName::ServiceIps,
        local_policy: SetName::LocalPolicyIps,
        no_endpoints: SetName::NoEndpointServices,
    };
    const NODE_PORT: Self = Self {
        entry: Entry::NodePort,
        services: SetName::ServiceNodePorts,
        local_policy: SetName::LocalPolicyNodePorts,
        no_endpoints: SetName::NoEndpointNodePorts,
    };
}

/// Rules go on to reject what they find by this verdict. (One that goes there itself would cost a check of the whole
/// table, as told in `numbers`.)
const REJECT: Verdict = Verdict::Continue;

fn last_address(range: IpNet) -> IpAddr {
    match range {
        IpNet::V4(range) => range.broadcast().into(),
        IpNet::V6(range) => range.broadcast().into(),
    }
}
