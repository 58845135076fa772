//! Endpoint selection and claims once more, told the way the rules are: slowly, and without looking at the cache's own
//! code.

use std::collections::BTreeSet;
use std::net::IpAddr;

use endpoint_cache::object::{EndpointSlice, SliceEndpoint};

use crate::generate::Claiming;

/// One address and port with what is known of it.
struct Known<'a> {
    address: IpAddr,
    port: u16,
    entry: &'a SliceEndpoint,
}

/// Addresses and ports for policy Cluster, for policy Local, and of all that serve.
pub(crate) type Chosen = [BTreeSet<(IpAddr, u16)>; 3];

/// What the unnamed TCP port of a Service should get of these IPv4 slices (in the order of their names).
pub(crate) fn choose(slices: &[EndpointSlice], node: &str, zone: Option<&str>) -> Chosen {
    let mut known: Vec<Known<'_>> = Vec::new();
    for slice in slices {
        for port in &slice.ports {
            let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
            let (Some(""), "TCP" | "", Some(number)) = (port.name.as_deref(), port.protocol.as_str(), number)
            else {
                continue;
            };
            for entry in &slice.endpoints {
                if let Some(Ok(address)) = entry.addresses.first().map(|text| text.parse()) {
                    learn(&mut known, Known { address, port: number, entry });
                }
            }
        }
    }
    let ready: Vec<&Known<'_>> = known.iter().filter(|k| is_ready(k.entry)).collect();
    let draining: Vec<&Known<'_>> =
        known.iter().filter(|k| is_serving(k.entry) && is_terminating(k.entry)).collect();
    let here = |k: &&&Known<'_>| k.entry.node_name.as_deref() == Some(node);

    let cluster = if ready.is_empty() { draining.clone() } else { near(&ready, node, zone) };
    let local_ready: Vec<_> = ready.iter().filter(here).copied().collect();
    let local_draining: Vec<_> = draining.iter().filter(here).copied().collect();
    let local = if local_ready.is_empty() { local_draining } else { local_ready };
    let serving = known.iter().filter(|k| is_serving(k.entry) || is_ready(k.entry)).collect();
    [cluster, local, serving].map(|list| list.into_iter().map(|k| (k.address, k.port)).collect())
}

/// Of copies, the better one stays.
fn learn<'a>(known: &mut Vec<Known<'a>>, new: Known<'a>) {
    let goodness = |e: &SliceEndpoint| (!is_terminating(e), is_ready(e), is_serving(e));
    match known.iter_mut().find(|k| (k.address, k.port) == (new.address, new.port)) {
        Some(old) if goodness(new.entry) > goodness(old.entry) => *old = new,
        Some(_) => {}
        None => known.push(new),
    }
}

/// The ready endpoints that hints leave over.
fn near<'a, 'b>(ready: &[&'a Known<'b>], node: &str, zone: Option<&str>) -> Vec<&'a Known<'b>> {
    let for_node = |k: &&&Known<'_>| k.entry.hints.for_nodes.iter().any(|hint| hint.name == node);
    let for_zone =
        |k: &&&Known<'_>| k.entry.hints.for_zones.iter().any(|hint| Some(hint.name.as_str()) == zone);
    if ready.iter().all(|k| !k.entry.hints.for_nodes.is_empty()) && ready.iter().any(|k| for_node(&k)) {
        return ready.iter().filter(for_node).copied().collect();
    }
    if ready.iter().all(|k| !k.entry.hints.for_zones.is_empty()) && ready.iter().any(|k| for_zone(&k)) {
        return ready.iter().filter(for_zone).copied().collect();
    }
    ready.to_vec()
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.ready != Some(false)
}

fn is_serving(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.serving != Some(false)
}

fn is_terminating(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.terminating == Some(true)
}

/// What each Service that is served gets: its name, its external IPs, its node port.
///
/// From the oldest to the youngest, whoever finds its ClusterIP free is served and takes what else is free.
pub(crate) fn share_out(services: &[Claiming]) -> BTreeSet<(String, Vec<String>, Option<i32>)> {
    let mut waiting: Vec<_> = services.iter().collect();
    waiting.sort_by_key(|service| (service.year, &service.name));
    let mut taken = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    let mut served = BTreeSet::new();
    for service in waiting {
        if !taken.insert(service.cluster_ip.clone()) {
            continue;
        }
        let external: Vec<_> =
            service.external_ips.iter().filter(|ip| taken.insert((*ip).clone())).cloned().collect();
        let node_port = Some(service.node_port).filter(|port| *port > 0 && node_ports.insert(*port));
        served.insert((service.name.clone(), external, node_port));
    }
    served
}
