//! What there is to say of a Service at a glance: whether it is served, and if not, why. Pure.

use serde::Serialize;

use crate::telemetry::shares::Shares;
use crate::view::{EndpointView, PortView, ServiceView};

/// How a Service stands, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Standing {
    /// A port has nobody to answer.
    Broken,
    /// It is served, but not by all, or not as it asks.
    Impaired,
    /// It is served.
    Served,
    /// It is not this process's to serve: headless, for one.
    NotProxied,
}

/// What there is to say of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assessed {
    pub(super) standing: Standing,
    /// Why, if it is not simply served; a sentence each.
    pub(super) reasons: Vec<String>,
    /// Endpoints of all ports.
    pub(super) endpoints: usize,
    /// Those among them that are used.
    pub(super) used: usize,
    pub(super) connections: u64,
    /// What it is searched by, in lower case.
    pub(super) text: String,
}

/// Assesses a Service, which has this number among all.
pub(super) fn assess(service: &ServiceView, number: usize, shares: &Shares) -> Assessed {
    let used = |port: &PortView| port.endpoints.iter().filter(|at| is_used(service, port, at)).count();
    let connections = (0..service.ports.len()).map(|port| shares.total((number, port))).sum();
    let (standing, reasons) = judge(service);
    Assessed {
        standing,
        endpoints: service.ports.iter().map(|port| port.endpoints.len()).sum(),
        used: service.ports.iter().map(used).sum(),
        connections,
        text: text(service, &reasons),
        reasons,
    }
}

/// Whether any traffic from this node or to it may be sent to an endpoint of a port.
pub(super) fn is_used(service: &ServiceView, port: &PortView, endpoint: &EndpointView) -> bool {
    let has_outside =
        port.node_port.is_some() || !service.external_ips.is_empty() || !service.load_balancer_ips.is_empty();
    let internal = Some(service.internal_traffic_policy.as_str());
    let external = has_outside.then_some(service.external_traffic_policy.as_str());
    [internal, external].into_iter().flatten().any(|policy| match policy {
        "Local" => endpoint.used_by_local,
        _ => endpoint.used_by_cluster,
    })
}

fn judge(service: &ServiceView) -> (Standing, Vec<String>) {
    let mut reasons = service.problems.clone();
    if service.ports.is_empty() || service.cluster_ips.is_empty() {
        return (Standing::NotProxied, reasons);
    }
    let mut standing = if reasons.is_empty() { Standing::Served } else { Standing::Impaired };
    let found: Vec<_> = service.ports.iter().map(|port| (port, judge_port(service, port))).collect();
    standing = found.iter().flat_map(|(_, found)| found).map(|(worst, _)| *worst).fold(standing, Ord::min);
    for (port, found_here) in &found {
        for reason in found_here {
            // What is so of every port is said once.
            let of_all = found.iter().all(|(_, others)| others.contains(reason));
            let told = if of_all { reason.1.clone() } else { format!("{}: {}", label(port), reason.1) };
            if !reasons.contains(&told) {
                reasons.push(told);
            }
        }
    }
    (standing, reasons)
}

fn judge_port(service: &ServiceView, port: &PortView) -> Vec<(Standing, String)> {
    let total = port.endpoints.len();
    if total == 0 {
        return vec![(Standing::Broken, "no endpoints".to_owned())];
    }
    let is_used = |endpoint: &EndpointView| is_used(service, port, endpoint);
    if !port.endpoints.iter().any(is_used) {
        let why = match &tally(&port.endpoints, |_| true)[..] {
            [(only, _)] => (*only).to_owned(),
            several => {
                several.iter().map(|(why, some)| format!("{some} {why}")).collect::<Vec<_>>().join(", ")
            }
        };
        let told = match total {
            1 => format!("its only endpoint is not used: {why}"),
            _ => format!("none of {total} endpoints is used: {why}"),
        };
        return vec![(Standing::Broken, told)];
    }
    let mut found = Vec::new();
    if service.internal_traffic_policy == "Local"
        && !port.endpoints.iter().any(|endpoint| endpoint.used_by_local)
    {
        let reason = "internalTrafficPolicy is Local, and no endpoint is on this node";
        found.push((Standing::Impaired, reason.to_owned()));
    }
    // That some are left out by policy, by hints or because they end is no reason for concern.
    let failed = |endpoint: &EndpointView| !is_used(endpoint) && !endpoint.ready && !endpoint.terminating;
    for (why, some) in tally(&port.endpoints, failed) {
        found.push((Standing::Impaired, format!("{some} of {total} endpoints: {why}")));
    }
    found
}

/// Why some endpoints are not used, each reason with the number of those it is true of.
fn tally(endpoints: &[EndpointView], which: impl Fn(&EndpointView) -> bool) -> Vec<(&str, usize)> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| which(endpoint)) {
        let why = endpoint.why_not.as_deref().unwrap_or("not ready");
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => reasons.push((why, 1)),
        }
    }
    reasons
}

fn label(port: &PortView) -> String {
    if port.name.is_empty() { format!("{}/{}", port.port, port.protocol) } else { port.name.clone() }
}

fn text(service: &ServiceView, reasons: &[String]) -> String {
    let mut text = format!("{}/{} {}", service.namespace, service.name, service.kind);
    let addresses = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips];
    for address in addresses.into_iter().flatten() {
        text += &format!(" {address}");
    }
    for port in &service.ports {
        text += &format!(" {} {}/{}", port.name, port.port, port.protocol);
        if let Some(node_port) = port.node_port {
            text += &format!(" {node_port}");
        }
    }
    for reason in reasons {
        text += " ";
        text += reason;
    }
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{endpoint, port, service};
    use super::*;

    fn judged(service: &ServiceView) -> (Standing, Vec<String>) {
        let assessed = assess(service, 0, &Shares::default());
        (assessed.standing, assessed.reasons)
    }

    fn unready(number: u8) -> EndpointView {
        let why_not = Some("not ready".to_owned());
        EndpointView {
            ready: false,
            used_by_cluster: false,
            used_by_local: false,
            why_not,
            ..endpoint(number)
        }
    }

    #[test]
    fn what_nobody_answers_is_broken() {
        for (endpoints, reason) in [
            (vec![], "no endpoints"),
            (vec![unready(1)], "its only endpoint is not used: not ready"),
            (vec![unready(1), unready(2)], "none of 2 endpoints is used: not ready"),
            (
                vec![
                    unready(1),
                    EndpointView { why_not: Some("hinted at zone b".into()), ..unready(2) },
                    unready(3),
                ],
                "none of 3 endpoints is used: 2 not ready, 1 hinted at zone b",
            ),
        ] {
            let expected = (Standing::Broken, vec![reason.to_owned()]);
            assert_eq!(judged(&service("web", vec![port("http", endpoints)])), expected);
        }
    }

    #[test]
    fn what_is_so_of_one_port_names_it() {
        let of = |other| service("web", vec![port("http", vec![]), port("https", other)]);
        assert_eq!(judged(&of(vec![])), (Standing::Broken, vec!["no endpoints".into()]));
        assert_eq!(judged(&of(vec![endpoint(1)])), (Standing::Broken, vec!["http: no endpoints".into()]));
    }

    #[test]
    fn what_is_left_out_on_purpose_is_no_problem() {
        let hinted = EndpointView { ready: true, why_not: Some("hinted at zone b".into()), ..unready(2) };
        let ending = EndpointView { terminating: true, why_not: Some("terminating".into()), ..unready(3) };
        let healthy = service("web", vec![port("http", vec![endpoint(1), hinted, ending])]);
        assert_eq!(judged(&healthy), (Standing::Served, vec![]));
        let impaired = service("web", vec![port("http", vec![endpoint(1), unready(2)])]);
        assert_eq!(judged(&impaired), (Standing::Impaired, vec!["1 of 2 endpoints: not ready".into()]));
    }

    #[test]
    fn policies_decide_who_is_used() {
        let elsewhere = EndpointView { used_by_local: false, ..endpoint(1) };
        let cluster = service("web", vec![port("http", vec![elsewhere])]);
        assert_eq!(judged(&cluster).0, Standing::Served);
        let internal = ServiceView { internal_traffic_policy: "Local".into(), ..cluster };
        assert_eq!(judged(&internal).0, Standing::Broken);
        let external = ServiceView { external_ips: vec!["5.5.5.5".parse().unwrap()], ..internal };
        let (standing, reasons) = judged(&external);
        assert!(
            standing == Standing::Impaired && reasons[0].contains("internalTrafficPolicy"),
            "{reasons:?}"
        );
    }

    #[test]
    fn problems_are_told_and_what_is_not_proxied_is_none() {
        let problems = vec!["spec.externalIPs: \"x\" is no address".to_owned()];
        let partly =
            ServiceView { problems: problems.clone(), ..service("web", vec![port("", vec![endpoint(1)])]) };
        assert_eq!(judged(&partly), (Standing::Impaired, problems.clone()));
        let headless = ServiceView { problems: problems.clone(), ..service("web", vec![]) };
        assert_eq!(judged(&headless), (Standing::NotProxied, problems));
    }
}
