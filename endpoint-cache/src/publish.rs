//! From a Service and its slices to the service ports a mode programs.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use crate::claims::{Claimant, Claims, Frontend};
use crate::problem::Findings;
use crate::select::{Selection, select};
use crate::service::{CompactPort, CompactService};
use crate::slice::CompactSlice;
use crate::{Change, Endpoint, Family, HealthCheck, Protocol, ServicePort, TrafficPolicy};

/// A Service with its slices, and what was published of it last.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) service: Option<CompactService>,
    /// Sorted by name.
    pub(crate) slices: Vec<(Arc<str>, CompactSlice)>,
    /// Sorted by name and family.
    pub(crate) published: Box<[Arc<ServicePort>]>,
}

impl Entry {
    /// Whether there is nothing left to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty() && self.published.is_empty()
    }

    /// Computes all service ports anew and publishes them. Returns what changed.
    pub(crate) fn publish(
        &mut self,
        claims: &Claims,
        zone: Option<&str>,
        refusals: &mut Findings,
    ) -> Vec<Change> {
        let mut next = Vec::new();
        for port in self.service.iter().flat_map(|service| &service.ports) {
            for family in Family::BOTH {
                next.extend(self.service_port(port, family, claims, zone, refusals).map(Arc::new));
            }
        }
        let mut changes = Vec::new();
        for after in &mut next {
            let before = self.published_as(after);
            match before {
                Some(before) if **before == **after => *after = Arc::clone(before),
                _ => changes.push(Change { before: before.cloned(), after: Some(Arc::clone(after)) }),
            }
        }
        let stays =
            |before: &Arc<ServicePort>| next.binary_search_by(|after| identity(after, before)).is_ok();
        let gone = self.published.iter().filter(|before| !stays(before));
        changes.extend(gone.map(|before| Change { before: Some(Arc::clone(before)), after: None }));
        self.published = next.into();
        changes
    }

    /// What a health-check responder should answer now.
    pub(crate) fn health_check(&self) -> Option<HealthCheck> {
        let port = self.service.as_ref()?.health_check_port?;
        Some(HealthCheck { port, local_ready: self.local_ready() })
    }

    /// Distinct ready addresses on this node. A dual-stack pod has one in each family, so the family with the most
    /// tells how many pods there are.
    fn local_ready(&self) -> usize {
        let count = |family| {
            let mut addresses = Vec::new();
            for (_, slice) in self.slices.iter().filter(|(_, slice)| slice.family() == family) {
                slice.local_ready(&mut addresses);
            }
            addresses.sort_unstable();
            addresses.dedup();
            addresses.len()
        };
        count(Family::V4).max(count(Family::V6))
    }

    fn published_as(&self, port: &ServicePort) -> Option<&Arc<ServicePort>> {
        let at = self.published.binary_search_by(|known| identity(known, port)).ok()?;
        self.published.get(at)
    }

    fn service_port(
        &self,
        port: &CompactPort,
        family: Family,
        claims: &Claims,
        zone: Option<&str>,
        refusals: &mut Findings,
    ) -> Option<ServicePort> {
        let service = self.service.as_ref()?;
        let cluster_ip = service.cluster_ip(family)?;
        let mut held = Held { claims, claimant: service.claimant(port), port, refusals };
        if !held.address(&cluster_ip, "spec.clusterIPs") {
            return None;
        }
        let mut service_port = ServicePort {
            name: Arc::clone(&port.name),
            family,
            cluster_ip,
            port: port.port,
            node_port: port.node_port.filter(|number| held.node_port(family, *number)),
            external_ips: service
                .external_ips(family)
                .filter(|ip| held.address(ip, "spec.externalIPs"))
                .collect(),
            load_balancer_ips: service
                .load_balancer_ips(family)
                .filter(|ip| held.address(ip, "status.loadBalancer.ingress"))
                .collect(),
            health_check_node_port: service.health_check_port,
            source_ranges: service.source_ranges(family),
            affinity_seconds: service.affinity_seconds,
            internal_policy: service.internal_policy,
            external_policy: service.external_policy,
            proxy_protocol: service.proxy_protocol && port.name.protocol == Protocol::Tcp,
            cluster_endpoints: Arc::default(),
            local_endpoints: Arc::default(),
            serving_endpoints: Arc::default(),
        };
        self.choose_endpoints(&mut service_port, zone);
        Some(service_port)
    }

    fn choose_endpoints(&self, port: &mut ServicePort, zone: Option<&str>) {
        let mut candidates = Vec::new();
        for (_, slice) in self.slices.iter().filter(|(_, slice)| slice.family() == port.family) {
            slice.candidates(&port.name.port, port.name.protocol, &mut candidates);
        }
        let Selection { cluster, local, serving } = select(candidates, zone);
        let mut lists = Lists::default();
        if let Some(before) = self.published_as(port) {
            let known = [&before.cluster_endpoints, &before.local_endpoints, &before.serving_endpoints];
            lists.0.extend(known.into_iter().cloned());
        }
        port.cluster_endpoints = lists.share(cluster);
        port.serving_endpoints = lists.share(serving);
        if has_local_policy(port) {
            port.local_endpoints = lists.share(local);
        }
    }
}

/// Orders service ports by what they are, not by what they hold.
pub(crate) fn identity(a: &ServicePort, b: &ServicePort) -> Ordering {
    (&a.name, a.family).cmp(&(&b.name, b.family))
}

fn has_local_policy(port: &ServicePort) -> bool {
    port.internal_policy == TrafficPolicy::Local
        || (port.external_policy == TrafficPolicy::Local && port.externally_reachable())
}

/// Lists that equal ones may share their memory with.
#[derive(Default)]
struct Lists(Vec<Arc<[Endpoint]>>);

impl Lists {
    fn share(&mut self, endpoints: Vec<Endpoint>) -> Arc<[Endpoint]> {
        if endpoints.is_empty() {
            return Arc::default();
        }
        if let Some(equal) = self.0.iter().find(|known| ***known == *endpoints) {
            return Arc::clone(equal);
        }
        let list: Arc<[Endpoint]> = endpoints.into();
        self.0.push(Arc::clone(&list));
        list
    }
}

/// Asks which frontends a service port holds, and reports those it does not.
struct Held<'a> {
    claims: &'a Claims,
    claimant: Claimant,
    port: &'a CompactPort,
    refusals: &'a mut Findings,
}

impl Held<'_> {
    fn address(&mut self, address: &IpAddr, field: &str) -> bool {
        let (protocol, port) = (self.port.name.protocol, self.port.port);
        let frontend = Frontend::Address { address: *address, protocol, port };
        self.holds(&frontend, || field.to_owned())
    }

    fn node_port(&mut self, family: Family, port: u16) -> bool {
        let frontend = Frontend::NodePort { family, protocol: self.port.name.protocol, port };
        let index = self.port.index;
        self.holds(&frontend, || format!("spec.ports[{index}].nodePort"))
    }

    fn holds(&mut self, frontend: &Frontend, field: impl Fn() -> String) -> bool {
        match self.claims.holder(frontend) {
            Some(holder) if *holder != self.claimant => {
                let (name, refused) = (&holder.name, &self.port.name);
                let reason = format!("{frontend} belongs to the older {name}: {refused} goes without it.");
                self.refusals.add(field(), reason);
                false
            }
            _ => true,
        }
    }
}
