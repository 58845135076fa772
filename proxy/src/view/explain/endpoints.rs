//! What follows from EndpointSlices, and from the fields that decide what is in them. Pure.

use std::cmp::Reverse;

use super::Fact;
use crate::view::count::Use;
use crate::view::{PortView, ServiceView, View};

/// How many reasons are given for a port.
const REASONS: usize = 3;

/// Of each port, and of hints.
pub(super) fn of(view: &View, service: &ServiceView) -> Vec<Fact> {
    let mut facts: Vec<_> = service.ports.iter().map(|port| of_port(service, port)).collect();
    facts.extend(distribution(view, service));
    if service.publish_not_ready_addresses {
        let meaning = "endpoints take traffic before they are ready, and for as long as they exist";
        facts.push(Fact::new("spec.publishNotReadyAddresses", "true", meaning));
    }
    facts
}

fn of_port(service: &ServiceView, port: &PortView) -> Fact {
    let all = port.endpoints.len();
    let used = port.endpoints.iter().filter(|endpoint| service.uses(port, endpoint) != Use::Not).count();
    let reasons = reasons(port);
    let meaning = match (all, reasons.is_empty()) {
        (0, _) => "there is no endpoint in any EndpointSlice: does the selector match pods?".to_owned(),
        (_, true) => "all are used".to_owned(),
        (_, false) => reasons.join("; "),
    };
    Fact::new(format!("endpoints of port {}", port.text()), format!("{used} of {all}"), meaning)
}

/// Why endpoints are not used, and how many for each reason; the most frequent first.
fn reasons(port: &PortView) -> Vec<String> {
    let mut counts: Vec<(usize, &str)> = Vec::new();
    for why_not in port.endpoints.iter().filter_map(|endpoint| endpoint.why_not.as_deref()) {
        match counts.iter_mut().find(|(_, known)| *known == why_not) {
            Some((count, _)) => *count += 1,
            None => counts.push((1, why_not)),
        }
    }
    counts.sort_by_key(|(count, _)| Reverse(*count));
    let more: usize = counts.iter().skip(REASONS).map(|(count, _)| count).sum();
    let mut reasons: Vec<_> =
        counts.iter().take(REASONS).map(|(count, why_not)| format!("{count} {why_not}")).collect();
    if more > 0 {
        reasons.push(format!("{more} for other reasons"));
    }
    reasons
}

/// The control plane follows the wish by hints, and this node follows hints, whoever wrote them.
fn distribution(view: &View, service: &ServiceView) -> Option<Fact> {
    let is_hinted =
        |why_not: &Option<String>| why_not.as_deref().is_some_and(|why| why.starts_with("hinted at"));
    let all = service.ports.iter().flat_map(|port| &port.endpoints);
    let elsewhere = all.filter(|endpoint| is_hinted(&endpoint.why_not)).count();
    if elsewhere == 0 && service.traffic_distribution.is_none() {
        return None;
    }
    let zone = view.zone.as_deref().map_or("in no zone".to_owned(), |zone| format!("in zone {zone}"));
    let meaning = match elsewhere {
        0 => format!("no endpoint is left out by the hints of EndpointSlices (this node is {zone})"),
        1 => format!("hints are followed: 1 endpoint is for others than this node, which is {zone}"),
        _ => format!(
            "hints are followed: {elsewhere} endpoints are for others than this node, which is {zone}"
        ),
    };
    let value = service.traffic_distribution.as_deref().unwrap_or("none, yet there are hints");
    Some(Fact::new("spec.trafficDistribution", value, meaning))
}
