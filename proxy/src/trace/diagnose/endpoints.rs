//! Findings about endpoints: why there is none to go to, and whether the kernel's are the ones that are known.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Case, Finding, Matter};
use crate::view::EndpointView;
use crate::view::frontend::{Frontend, Kind};

/// How many are named in a sentence.
const NAMED: usize = 3;

/// What the kernel leads to against what is known; and whom the client stays with.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let found: BTreeSet<_> = case.endpoints().collect();
    let Some(frontend) = case.frontend.filter(|_| !found.is_empty()) else { return Vec::new() };
    let mut findings = Vec::new();
    findings.extend(drift(case, &frontend, &found));
    findings.extend(affinity(case, &frontend, &found));
    findings.extend(terminating(&frontend, &found));
    findings
}

/// The endpoints that the policies allow for some client: under a Local policy those here, or, for some, all.
pub(in crate::trace) fn allowed(frontend: &Frontend<'_>, ipv4: bool) -> Vec<BTreeSet<SocketAddr>> {
    let of = |is_used: fn(&EndpointView) -> bool| -> BTreeSet<SocketAddr> {
        let endpoints = frontend.port.endpoints.iter().filter(|endpoint| is_used(endpoint));
        endpoints.map(|endpoint| endpoint.address).filter(|address| address.is_ipv4() == ipv4).collect()
    };
    let (cluster, local) = (of(|endpoint| endpoint.used_by_cluster), of(|endpoint| endpoint.used_by_local));
    let service = frontend.service;
    match frontend.kind {
        Kind::ClusterIp if service.internal_traffic_policy == "Local" => vec![local],
        Kind::ClusterIp => vec![cluster],
        _ if service.external_traffic_policy == "Local" => vec![local, cluster],
        _ => vec![cluster],
    }
}

/// Of what is allowed, what is most like that which was found.
fn expected(frontend: &Frontend<'_>, found: &BTreeSet<SocketAddr>, ipv4: bool) -> BTreeSet<SocketAddr> {
    let allowed = allowed(frontend, ipv4);
    allowed.into_iter().min_by_key(|set| set.symmetric_difference(found).count()).unwrap_or_default()
}

/// What is otherwise with an endpoint that the kernel leads to.
pub(in crate::trace) fn difference(frontend: &Frontend<'_>, endpoint: SocketAddr) -> Option<String> {
    // One that several slices name stands there as often.
    let known: Vec<_> = frontend.port.endpoints.iter().filter(|known| known.address == endpoint).collect();
    if known.iter().any(|known| known.used_by_cluster || known.used_by_local) {
        return None;
    }
    Some(match known.first().map(|known| known.why_not.as_deref()) {
        None => "not known to the running pointsman".to_owned(),
        Some(why) => {
            let why = why.unwrap_or("not to be used");
            format!("not used by the running pointsman: {why}")
        }
    })
}

fn drift(case: &Case<'_>, frontend: &Frontend<'_>, found: &BTreeSet<SocketAddr>) -> Option<Finding> {
    let expected = expected(frontend, found, case.packet.destination.is_ipv4());
    let more: Vec<_> = found.difference(&expected).copied().collect();
    // A client that stays with an endpoint has no other.
    let stays = frontend.service.affinity_seconds.is_some() && found.len() == 1;
    let missing: Vec<_> = expected.difference(found).copied().filter(|_| !stays).collect();
    let says = match (&more[..], &missing[..]) {
        ([], []) => return None,
        (more, []) => format!("The kernel leads to {} too, which pointsman does not want.", named(more)),
        ([], missing) => format!("The kernel does not lead to {}, which pointsman wants.", named(missing)),
        (more, missing) => format!("The kernel leads to {} instead of {}.", named(more), named(missing)),
    };
    Some(Finding::note(Matter::Drift, "`pointsman diff` and the log of pointsman on this node", says))
}

fn affinity(case: &Case<'_>, frontend: &Frontend<'_>, found: &BTreeSet<SocketAddr>) -> Option<Finding> {
    let seconds = frontend.service.affinity_seconds?;
    let [endpoint] = found.iter().collect::<Vec<_>>()[..] else { return None };
    let all = allowed(frontend, case.packet.destination.is_ipv4());
    let has_choice = all.iter().any(|set| set.len() > 1);
    has_choice.then(|| {
        let says = format!(
            "This client stays with {endpoint}, which it used less than {seconds} s ago (sessionAffinity: ClientIP)."
        );
        Finding::note(Matter::Affinity, format!("{}, spec.sessionAffinity", frontend.object()), says)
    })
}

fn terminating(frontend: &Frontend<'_>, found: &BTreeSet<SocketAddr>) -> Option<Finding> {
    let leaving = |endpoint: &SocketAddr| {
        frontend
            .port
            .endpoints
            .iter()
            .any(|known| known.address == *endpoint && known.terminating && !known.ready)
    };
    found.iter().all(leaving).then(|| {
        let says = "Only pods that are terminating serve it, since none is ready: that ends when they do.";
        Finding::note(Matter::OnlyTerminating, slices(frontend), says)
    })
}

/// Why nobody serves it, in the family that is asked about.
pub(super) fn nobody(frontend: &Frontend<'_>, ipv4: bool) -> Finding {
    let all = &frontend.port.endpoints;
    // That is how an endpoint is told whose slice lacks the port.
    let mismatch = |endpoint: &&EndpointView| endpoint.address.port() == 0;
    let (of_family, of_other): (Vec<_>, Vec<_>) =
        all.iter().partition(|endpoint| endpoint.address.is_ipv4() == ipv4);
    let object = frontend.object();
    if let Some(endpoint) = all.iter().find(mismatch) {
        let why = endpoint.why_not.as_deref().unwrap_or_default();
        let says = format!("Its endpoints have no port that it asks for: {why}.");
        let look_at = format!("EndpointSlice {} and the ports of {object}", endpoint.slice);
        return Finding::stop(Matter::PortNameMismatch, look_at, says);
    }
    match (&of_family[..], &of_other[..]) {
        ([], []) => {
            let says = "It has no endpoints: its selector matches no pod with an address.";
            Finding::stop(
                Matter::NoEndpoints,
                format!("{object}, spec.selector, and its EndpointSlices"),
                says,
            )
        }
        ([], others) => {
            let (has, asked) = if ipv4 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            let says = format!("Its {} are {has} only, and the connection is {asked}.", count(others.len()));
            Finding::stop(
                Matter::OtherFamily,
                format!("{object}, spec.ipFamilies, and its EndpointSlices"),
                says,
            )
        }
        (endpoints, _) if endpoints.iter().all(|endpoint| endpoint.terminating) => {
            let says = format!("Its {} are terminating and serve no longer.", count(endpoints.len()));
            Finding::stop(Matter::OnlyTerminating, slices(frontend), says)
        }
        (endpoints, _) => {
            let says = format!("None of its {} is ready.", count(endpoints.len()));
            Finding::stop(
                Matter::NotReady,
                format!("{} and the pods' readiness probes", slices(frontend)),
                says,
            )
        }
    }
}

/// `EndpointSlice demo/web-abc` or several.
fn slices(frontend: &Frontend<'_>) -> String {
    let names: BTreeSet<&str> =
        frontend.port.endpoints.iter().map(|endpoint| endpoint.slice.as_str()).collect();
    match names.iter().collect::<Vec<_>>()[..] {
        [] => format!("EndpointSlices of {}", frontend.object()),
        [one] => format!("EndpointSlice {one}"),
        [one, ..] => format!("EndpointSlice {one} and {} more", names.len() - 1),
    }
}

pub(super) fn count(endpoints: usize) -> String {
    if endpoints == 1 { "1 endpoint".to_owned() } else { format!("{endpoints} endpoints") }
}

pub(super) fn named(endpoints: &[SocketAddr]) -> String {
    let some: Vec<_> = endpoints.iter().take(NAMED).map(SocketAddr::to_string).collect();
    match endpoints.len().saturating_sub(NAMED) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
