//! What follows from the fields of `spec` and `status`. Pure.

use std::net::IpAddr;

use super::Fact;
use crate::view::{PortView, ServiceView, View};

/// Every field that matters here, in the order in which `kubectl explain` has them, more or less.
pub(super) fn of(view: &View, service: &ServiceView) -> Vec<Fact> {
    let external = service.ports.iter().any(|port| service.leads_from_outside(port));
    let mut facts = vec![kind(service), cluster_ips(view, service), families(service), internal(service)];
    if external {
        facts.push(external_policy(view, service));
    }
    facts.push(affinity(view, service));
    if !service.external_ips.is_empty() {
        let meaning =
            "traffic to these addresses that is routed to this node is served here, as traffic from outside";
        facts.push(Fact::new("spec.externalIPs", list(&service.external_ips), meaning));
    }
    facts.extend(load_balancer(service));
    facts.extend(health_check(service));
    facts.extend(proxy_protocol(view, service));
    facts
}

/// `5 endpoints`; of several ports that differ, each by itself.
pub(super) fn counted(service: &ServiceView, count: impl Fn(&PortView) -> usize) -> String {
    let noun = |count: usize| if count == 1 { "1 endpoint".to_owned() } else { format!("{count} endpoints") };
    let counts: Vec<_> = service.ports.iter().map(|port| (count(port), port)).collect();
    match counts.first() {
        None => noun(0),
        Some((first, _)) if counts.iter().all(|(count, _)| count == first) => noun(*first),
        Some(_) => {
            let of_port =
                |(count, port): &(usize, &PortView)| format!("{} of port {}", noun(*count), port.text());
            counts.iter().map(of_port).collect::<Vec<_>>().join(", ")
        }
    }
}

pub(super) fn by_cluster(port: &PortView) -> usize {
    port.count(|endpoint| endpoint.used_by_cluster)
}

pub(super) fn by_local(port: &PortView) -> usize {
    port.count(|endpoint| endpoint.used_by_local)
}

/// How many there are for all ports together: is it none?
fn none(service: &ServiceView, count: impl Fn(&PortView) -> usize) -> bool {
    service.ports.iter().all(|port| count(port) == 0)
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn kind(service: &ServiceView) -> Fact {
    let meaning = match service.kind.as_str() {
        "NodePort" => "reached at its ClusterIP, and at a port of every node",
        "LoadBalancer" => {
            "reached at its ClusterIP, at a port of every node if it has node ports, and at the load balancer's addresses"
        }
        _ => "reached at its ClusterIP, from pods and nodes",
    };
    Fact::new("spec.type", &*service.kind, meaning)
}

fn cluster_ips(view: &View, service: &ServiceView) -> Fact {
    let ports = service.ports.iter().map(PortView::text).collect::<Vec<_>>().join(", ");
    let how = match view.mode.as_str() {
        "ipvs" => {
            let scheduler = view.settings.ipvs_scheduler.as_str();
            let scheduler = if scheduler.is_empty() { "rr" } else { scheduler };
            format!("the kernel's IPVS chooses an endpoint for each connection, by scheduler {scheduler}")
        }
        "userspace" => "the proxy's process takes each connection and makes one to an endpoint".to_owned(),
        _ => "for each connection an endpoint is drawn, all alike probable".to_owned(),
    };
    Fact::new("spec.clusterIPs", list(&service.cluster_ips), format!("serves {ports}: {how}"))
}

fn families(service: &ServiceView) -> Fact {
    let v4 = service.cluster_ips.iter().any(IpAddr::is_ipv4);
    let v6 = service.cluster_ips.iter().any(IpAddr::is_ipv6);
    let (value, meaning) = match (v4, v6) {
        (true, true) => {
            ("IPv4, IPv6", "served over both; traffic of each family goes to endpoints of that family")
        }
        (true, false) => ("IPv4", "served over IPv4 only: endpoints of EndpointSlices of IPv6 are not used"),
        _ => ("IPv6", "served over IPv6 only: endpoints of EndpointSlices of IPv4 are not used"),
    };
    Fact::new("spec.ipFamilies", value, meaning)
}

fn internal(service: &ServiceView) -> Fact {
    let (anywhere, here) = (counted(service, by_cluster), counted(service, by_local));
    let local = service.internal_traffic_policy == "Local";
    let meaning = if none(service, by_cluster) && (!local || none(service, by_local)) {
        "connections to the ClusterIP are rejected: no endpoint can be used".to_owned()
    } else if !local {
        format!("traffic to the ClusterIP may go to endpoints on any node: {anywhere} now")
    } else if none(service, by_local) {
        format!(
            "no endpoint is on this node: traffic to the ClusterIP is dropped, though there are {anywhere} elsewhere"
        )
    } else {
        format!("traffic to the ClusterIP goes to endpoints on this node only: {here}")
    };
    Fact::new("spec.internalTrafficPolicy", &*service.internal_traffic_policy, meaning)
}

fn external_policy(view: &View, service: &ServiceView) -> Fact {
    let (anywhere, here) = (counted(service, by_cluster), counted(service, by_local));
    let local = service.external_traffic_policy == "Local";
    let by_process = view.mode == "userspace";
    // IPVS has one list of endpoints for whoever comes.
    let own = match view.mode.as_str() {
        "ipvs" if !none(service, by_local) => "; so does that of pods and of this node itself".to_owned(),
        _ => format!("; pods and this node itself may use all {anywhere}"),
    };
    let meaning = if none(service, by_cluster) && (!local || none(service, by_local)) {
        "connections from outside are rejected: no endpoint can be used".to_owned()
    } else if !local && by_process {
        format!("traffic from outside may go to endpoints on any node: {anywhere} now")
    } else if !local {
        format!(
            "traffic from outside may go to endpoints on any node ({anywhere} now), and is masqueraded: they see this \
             node's address in place of the client's"
        )
    } else if none(service, by_local) {
        format!("no endpoint is on this node: traffic from outside is dropped{own}")
    } else if by_process {
        format!("traffic from outside goes to endpoints on this node only: {here}{own}")
    } else {
        format!(
            "traffic from outside goes to endpoints on this node only ({here}), which see the client's address{own}"
        )
    };
    Fact::new("spec.externalTrafficPolicy", &*service.external_traffic_policy, meaning)
}

fn affinity(view: &View, service: &ServiceView) -> Fact {
    let Some(seconds) = service.affinity_seconds else {
        let meaning = "an endpoint is chosen anew for each connection, whoever the client is";
        return Fact::new("spec.sessionAffinity", "None", meaning);
    };
    let scope = match view.mode.as_str() {
        "ipvs" => "at each address and port of the Service by itself (IPVS's persistence)",
        _ => "at whatever address of the Service",
    };
    let meaning = format!(
        "a client address stays with its endpoint, {scope}, until it has made no connection for {seconds} s or the \
         endpoint cannot be used any longer"
    );
    Fact::new("spec.sessionAffinity", format!("ClientIP, {seconds} s"), meaning)
}

fn load_balancer(service: &ServiceView) -> Vec<Fact> {
    if service.load_balancer_ips.is_empty() {
        return Vec::new();
    }
    let meaning = "traffic to these addresses is served by this node itself, also its own and its pods', without a \
                   detour by the load balancer";
    let mut facts = vec![Fact::new("status.loadBalancer.ingress", list(&service.load_balancer_ips), meaning)];
    let ranges = &service.source_ranges;
    if ranges.is_empty() {
        return facts;
    }
    let meaning = if ranges.iter().any(|range| range.prefix_len() == 0) {
        "these admit everybody to the load-balancer addresses"
    } else {
        "only these clients may use the load-balancer addresses, what others send is dropped; ClusterIPs, external IPs and \
         node ports are open to everybody all the same"
    };
    let value = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    facts.push(Fact::new("spec.loadBalancerSourceRanges", value, meaning));
    facts
}

fn health_check(service: &ServiceView) -> Option<Fact> {
    let port = service.health_check_node_port?;
    // A pod that serves several ports is one.
    let here = service.ports.iter().map(|port| port.count(|endpoint| endpoint.local && endpoint.ready));
    let here = here.max().unwrap_or(0);
    let meaning = match here {
        0 => "load balancers that ask this node there are answered 503: no endpoint here is ready".to_owned(),
        _ => format!(
            "load balancers that ask this node there are answered 200, with the number of ready endpoints here: {here}"
        ),
    };
    Some(Fact::new("spec.healthCheckNodePort", port.to_string(), meaning))
}

fn proxy_protocol(view: &View, service: &ServiceView) -> Option<Fact> {
    let meaning = match view.mode.as_str() {
        "userspace" => {
            "connections to endpoints of TCP ports begin with a PROXY protocol header that tells of the client"
        }
        _ => "does nothing in this mode: only userspace mode can put a header in front of connections",
    };
    service
        .proxy_protocol
        .then(|| Fact::new("metadata.annotations[pointsman.dev/proxy-protocol]", "v2", meaning))
}
