//! From what is known of a Service to what a mode is to program.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cache::Holdings;
use crate::claims::{Claimant, Frontend};
use crate::object::ObjectName;
use crate::problem::Findings;
use crate::select::select;
use crate::service::{CompactPort, CompactService};
use crate::slice::CompactSlice;
use crate::{Endpoint, Family, HealthCheck, ServicePort, TrafficPolicy};

/// The service ports of a Service, in each family that it has a ClusterIP in. Claims that were refused are `refused`.
pub(crate) fn service_ports(
    holdings: &Holdings,
    name: &ObjectName,
    refused: &mut Findings,
) -> Vec<Arc<ServicePort>> {
    let Some(service) = holdings.services.get(name) else { return Vec::new() };
    let in_family = |family| service.ports.iter().map(move |port| (family, port));
    let all = Family::BOTH.into_iter().flat_map(in_family);
    all.filter_map(|(family, port)| {
        let cluster_ip = service.cluster_ip(family)?;
        let port = PublishedPort { holdings, service, port, family, claimant: service.claimant(port) };
        port.publish(name, cluster_ip, refused).map(Arc::new)
    })
    .collect()
}

struct PublishedPort<'a> {
    holdings: &'a Holdings,
    service: &'a CompactService,
    port: &'a CompactPort,
    family: Family,
    claimant: Claimant,
}

impl PublishedPort<'_> {
    /// `None` if another service port holds the ClusterIP.
    fn publish(&self, name: &ObjectName, cluster_ip: IpAddr, refused: &mut Findings) -> Option<ServicePort> {
        let Self { service, port, family, .. } = *self;
        if !self.holds(self.at(cluster_ip), "spec.clusterIP", refused) {
            return None;
        }
        let node_port = port.node_port.filter(|number| {
            let frontend = Frontend::NodePort { family, protocol: port.name.protocol, port: *number };
            self.holds(frontend, &format!("spec.ports[{}].nodePort", port.index), refused)
        });
        let mut held = |addresses: Vec<IpAddr>, field: &str| -> Box<[IpAddr]> {
            addresses.into_iter().filter(|ip| self.holds(self.at(*ip), field, refused)).collect()
        };
        let external_ips = held(service.external_ips(family).collect(), "spec.externalIPs");
        let load_balancer_ips =
            held(service.load_balancer_ips(family).collect(), "status.loadBalancer.ingress");
        let externally_reachable =
            node_port.is_some() || !external_ips.is_empty() || !load_balancer_ips.is_empty();
        let uses_local = service.internal_policy == TrafficPolicy::Local
            || externally_reachable && service.external_policy == TrafficPolicy::Local;
        let [cluster, local, serving] = self.endpoints(name, uses_local);
        Some(ServicePort {
            name: Arc::clone(&port.name),
            family,
            cluster_ip,
            port: port.port,
            node_port,
            external_ips,
            load_balancer_ips,
            source_ranges: service.source_ranges(family),
            affinity_seconds: service.affinity_seconds,
            internal_policy: service.internal_policy,
            external_policy: service.external_policy,
            cluster_endpoints: cluster,
            local_endpoints: local,
            serving_endpoints: serving,
        })
    }

    fn at(&self, address: IpAddr) -> Frontend {
        Frontend::Address { address, protocol: self.port.name.protocol, port: self.port.port }
    }

    fn holds(&self, frontend: Frontend, field: &str, refused: &mut Findings) -> bool {
        match self.holdings.claims.holder(&frontend) {
            Some(holder) if *holder == self.claimant => true,
            Some(holder) => {
                let reason = format!("{frontend} belongs to {}, which is older: left out.", holder.name);
                refused.add(field, reason);
                false
            }
            None => false,
        }
    }

    /// Endpoints for policy Cluster, for policy Local and all that serve; equal lists are one allocation.
    fn endpoints(&self, name: &ObjectName, uses_local: bool) -> [Arc<[Endpoint]>; 3] {
        let mut candidates = Vec::new();
        for slice in slices(self.holdings, name).filter(|slice| slice.family() == self.family) {
            slice.candidates(&self.port.name.port, self.port.name.protocol, &mut candidates);
        }
        let selection = select(candidates, self.holdings.node.zone.as_deref());
        let cluster: Arc<[Endpoint]> = selection.cluster.into();
        let or_same =
            |list: Vec<Endpoint>| if *list == *cluster { Arc::clone(&cluster) } else { list.into() };
        let local = if uses_local { selection.local } else { Vec::new() };
        let (local, serving) = (or_same(local), or_same(selection.serving));
        [cluster, local, serving]
    }
}

/// What the health-check responder of a Service answers, if it has one.
pub(crate) fn health_check(holdings: &Holdings, name: &ObjectName) -> Option<HealthCheck> {
    let port = holdings.services.get(name)?.health_check_port?;
    // A dual-stack pod has an address in each family, and is one pod.
    let local_ready = |family| {
        let mut addresses = Vec::new();
        slices(holdings, name)
            .filter(|slice| slice.family() == family)
            .for_each(|slice| slice.local_ready(&mut addresses));
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    };
    Some(HealthCheck { port, local_ready: Family::BOTH.into_iter().map(local_ready).max().unwrap_or(0) })
}

fn slices<'a>(holdings: &'a Holdings, name: &ObjectName) -> impl Iterator<Item = &'a CompactSlice> {
    holdings.slices.get(name).into_iter().flatten().map(|(_, slice)| slice)
}
