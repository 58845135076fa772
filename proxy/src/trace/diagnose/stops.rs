//! Why a connection gets no further than the rules.

use std::collections::BTreeSet;

use super::endpoints::{allowed, count, nobody};
use super::{Case, Finding, Matter};
use crate::trace::model::End;
use crate::trace::target;
use crate::view::frontend::{Frontend, Kind, kind_of, object, port_name};
use crate::view::{PortView, ServiceView};

/// Why it does not get to an endpoint, if it does not.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    if let Some(finding) = anothers(case) {
        return vec![finding];
    }
    let is_policies = case.policies.stopped > 0;
    if case.ways.is_empty() || case.endpoints().next().is_some() || is_policies {
        return Vec::new();
    }
    let Ok(_) = case.view else { return vec![by_end(case)] };
    match &case.frontend {
        Some(frontend) => vec![of_service(case, frontend)],
        None => vec![of_address(case)],
    }
}

/// The address is not the one's that was asked about.
fn anothers(case: &Case<'_>) -> Option<Finding> {
    let (meant, owner) = (case.meant?, case.frontend?);
    (owner.name() != meant).then(|| {
        let (to, owner) = (case.packet.destination, owner.name());
        let says = format!("{to} is {owner}'s, which claims it too: {meant} goes without.");
        Finding::stop(
            Matter::LeftOut,
            format!("Service {}", meant.rsplit_once(':').map_or(meant, |(name, _)| name)),
            says,
        )
    })
}

fn has_end(case: &Case<'_>, is: fn(&End) -> bool) -> bool {
    case.ways.iter().any(|way| is(&way.end))
}

/// What can be said when nothing is known of Services.
fn by_end(case: &Case<'_>) -> Finding {
    let (to, look_at) = (case.packet.destination, "the Service that has this address");
    if has_end(case, |end| *end == End::Rejected) {
        let says = format!(
            "The rules refuse connections to {to}: a Service without endpoints, or without this port."
        );
        Finding::stop(Matter::Refused, look_at, says)
    } else if has_end(case, |end| *end == End::Dropped) {
        let says = format!(
            "The rules drop connections to {to}: by a Local policy, a source range, or for no Service."
        );
        Finding::stop(Matter::Dropped, look_at, says)
    } else {
        let says = format!("No rule translates {to}: no Service has it, or its rules are missing.");
        Finding::note(Matter::Untranslated, look_at, says)
    }
}

/// Why a Service's port leads nowhere.
fn of_service(case: &Case<'_>, frontend: &Frontend<'_>) -> Finding {
    let ipv4 = case.packet.destination.is_ipv4();
    let everybody =
        || frontend.port.endpoints.iter().any(|endpoint| endpoint.used_by_cluster || endpoint.used_by_local);
    let may_be_used = allowed(frontend, ipv4).into_iter().any(|set| !set.is_empty());
    let is_dropped = has_end(case, |end| *end == End::Dropped);
    let excluded = excluded(case, frontend);
    match excluded {
        Some(finding) if !has_end(case, |end| matches!(end, End::Untranslated { .. })) => return finding,
        _ => {}
    }
    if let Some(finding) = kept_local(frontend, is_dropped).filter(|_| everybody()) {
        return finding;
    }
    if !may_be_used {
        return nobody(frontend, ipv4);
    }
    if let Some(problem) = frontend.service.problems.first() {
        return Finding::stop(
            Matter::LeftOut,
            frontend.object(),
            format!("It is not served, or in part: {problem}"),
        );
    }
    if let Some(address) = case.facts.answers_at.filter(|_| frontend.kind == Kind::NodePort) {
        let says =
            format!("Node ports do not answer at {}; they do at {address}.", case.packet.destination.ip());
        let look_at = "--nodeport-addresses (nodePortAddresses) of pointsman on this node";
        return Finding::stop(Matter::NodePortAddress, look_at, says);
    }
    missing(case, frontend)
}

/// The rules are not what they should be.
fn missing(case: &Case<'_>, frontend: &Frontend<'_>) -> Finding {
    let usable = allowed(frontend, case.packet.destination.is_ipv4()).iter().map(BTreeSet::len).max();
    let usable = count(usable.unwrap_or_default());
    let does = match case.ways.first().map(|way| &way.end) {
        Some(End::Rejected) => "refuse it",
        Some(End::Dropped) => "drop it",
        _ => "have nothing of it",
    };
    let says = format!("{} may be used, but the rules in the kernel {does}.", capital(&usable));
    Finding::stop(Matter::Drift, "`pointsman diff` and the log of pointsman on this node", says)
}

fn capital(text: &str) -> String {
    format!("Its {text}")
}

/// The client may not use the load-balancer addresses.
fn excluded(case: &Case<'_>, frontend: &Frontend<'_>) -> Option<Finding> {
    let (service, source) = (frontend.service, case.packet.source);
    let ranges = &service.source_ranges;
    let is_guarded = frontend.kind == Kind::LoadBalancerIp && !ranges.is_empty();
    (is_guarded && !ranges.iter().any(|range| range.contains(&source))).then(|| {
        let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        let says =
            format!("Only clients in {} may use this address, and {source} is not one.", ranges.join(", "));
        Finding::stop(
            Matter::SourceRange,
            format!("{}, spec.loadBalancerSourceRanges", frontend.object()),
            says,
        )
    })
}

/// There are endpoints, but none here, and a policy says that it must be one of those.
fn kept_local(frontend: &Frontend<'_>, is_dropped: bool) -> Option<Finding> {
    let service = frontend.service;
    let (name, policy, field) = match frontend.kind {
        Kind::ClusterIp => (Matter::InternalLocal, &service.internal_traffic_policy, "internalTrafficPolicy"),
        _ => (Matter::ExternalLocal, &service.external_traffic_policy, "externalTrafficPolicy"),
    };
    let here = frontend.port.endpoints.iter().filter(|endpoint| endpoint.used_by_local).count();
    (is_dropped && policy == "Local" && here == 0).then(|| {
        let elsewhere =
            count(frontend.port.endpoints.iter().filter(|endpoint| endpoint.used_by_cluster).count());
        let says = format!("None of its {elsewhere} is on this node, and {field} is Local.");
        Finding::stop(name, format!("{}, spec.{field}", frontend.object()), says)
    })
}

/// No Service's port is there.
fn of_address(case: &Case<'_>) -> Finding {
    let Ok(view) = case.view else { return by_end(case) };
    let to = case.packet.destination;
    let owner = view.services.iter().find_map(|service| Some((service, kind_of(service, to.ip())?)));
    if let Some((service, _)) = owner {
        return wrong_port(case, service);
    }
    let ports =
        || view.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let is_endpoint = |(_, port): &(&ServiceView, &PortView)| {
        port.endpoints.iter().any(|endpoint| endpoint.address.ip() == to.ip())
    };
    if let Some((service, port)) = ports().find(is_endpoint).filter(|_| !case.facts.destination_is_local) {
        let says = format!(
            "It is the address of a pod (an endpoint of {}): no Service is on the way.",
            port_name(service, port)
        );
        return Finding::note(Matter::AddressOfPod, "the pod", says);
    }
    if case.facts.destination_is_local {
        let others: Vec<_> = ports().filter(|(_, port)| port.node_port == Some(to.port())).collect();
        return not_a_node_port(case, &others);
    }
    no_service(case)
}

fn wrong_port(case: &Case<'_>, service: &ServiceView) -> Finding {
    let (to, protocol) = (case.packet.destination, case.packet.protocol);
    let look_at = format!("{}, spec.ports", object(service));
    let same_number = || service.ports.iter().filter(|port| port.port == to.port());
    if same_number().next().is_some() {
        let says = format!(
            "Port {} of {} does not speak {protocol}: it is {}.",
            to.port(),
            object(service),
            target::ports(same_number())
        );
        return Finding::stop(Matter::WrongProtocol, look_at, says);
    }
    let says = format!(
        "{} has no port {}/{protocol}; it has {}.",
        object(service),
        to.port(),
        target::ports(&service.ports)
    );
    Finding::stop(Matter::WrongPort, look_at, says)
}

fn not_a_node_port(case: &Case<'_>, others: &[(&ServiceView, &PortView)]) -> Finding {
    let (port, protocol) = (case.packet.destination.port(), case.packet.protocol);
    match others.first() {
        Some((service, other)) => {
            let says = format!(
                "Node port {port} is {} and speaks {}, not {protocol}.",
                port_name(service, other),
                other.protocol.to_ascii_lowercase()
            );
            Finding::stop(Matter::WrongProtocol, format!("{}, spec.ports", object(service)), says)
        }
        None => {
            let says = format!(
                "No Service has node port {port}/{protocol}: it is left to this node's own programs."
            );
            Finding::note(Matter::NotANodePort, "the Service that is meant, spec.ports[].nodePort", says)
        }
    }
}

fn no_service(case: &Case<'_>) -> Finding {
    let Ok(view) = case.view else { return by_end(case) };
    let asked = case.packet.destination.to_string();
    let all = view.services.iter().flat_map(|service| {
        let addresses =
            service.cluster_ips.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
        addresses.flat_map(move |address| {
            let at = move |port: &PortView| {
                (std::net::SocketAddr::new(*address, port.port).to_string(), port_name(service, port))
            };
            service.ports.iter().map(at)
        })
    });
    let near =
        target::nearest(all.map(|(at, name)| (strsim::jaro_winkler(&asked, &at), format!("{at} ({name})"))));
    let near = if near.is_empty() { String::new() } else { format!(" Is it {}?", near.join(" or ")) };
    let does = if has_end(case, |end| *end == End::Dropped) { ", and packets to it are dropped" } else { "" };
    let says = format!("No Service has {}{does}.{near}", case.packet.destination.ip());
    let look_at = "the Service that is meant, spec.clusterIPs";
    match has_end(case, |end| matches!(end, End::Untranslated { .. })) {
        true => Finding::note(Matter::NoService, look_at, says),
        false => Finding::stop(Matter::NoService, look_at, says),
    }
}
