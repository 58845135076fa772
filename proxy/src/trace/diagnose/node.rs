//! Findings about the node, the process that programs it, and connections that are there already.

use std::collections::BTreeSet;

use endpoint_cache::Protocol;

use super::endpoints::named;
use super::{Case, Finding, Matter};
use crate::trace::model::Origin;

/// All of them.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let all = [no_rules(case), unreachable(case), forwarding(case), stale_flows(case)];
    all.into_iter().flatten().chain(daemon(case)).collect()
}

fn no_rules(case: &Case<'_>) -> Option<Finding> {
    if case.rules.is_some() || !case.ways.is_empty() {
        return None;
    }
    let bound = case.status.filter(|status| status.mode == "userspace").map(|status| {
        let name = case.frontend.map(|frontend| frontend.name());
        let target = status.targets.iter().find(|target| Some(&target.service_port) == name.as_ref());
        target.map_or_else(String::new, |target| format!(" Connect to {} instead.", target.listens))
    });
    let says = match bound {
        Some(instead) => {
            format!("Userspace mode works without rules here: addresses of Services lead nowhere.{instead}")
        }
        None => "The kernel holds no rules of pointsman or kube-proxy, in any mode.".to_owned(),
    };
    Some(Finding::stop(Matter::NoRules, "`pointsman status` and the log of pointsman on this node", says))
}

fn unreachable(case: &Case<'_>) -> Option<Finding> {
    let unreachable = &case.facts.unreachable;
    (!unreachable.is_empty()).then(|| {
        let says = format!("This node has no route to {}.", named(unreachable));
        Finding::stop(
            Matter::NoRouteToEndpoint,
            "the node's routes (`ip route`) and its network plugin",
            says,
        )
    })
}

fn forwarding(case: &Case<'_>) -> Option<Finding> {
    let is_passed_on = case.packet.origin != Origin::Node && case.endpoints().next().is_some();
    let is_off = case.facts.forwards == Some(false) && !case.facts.serves_itself;
    (is_passed_on && is_off).then(|| {
        let sysctl =
            if case.packet.source.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
        let says = format!("This node passes no packets on from one interface to another: {sysctl} is 0.");
        Finding::stop(Matter::ForwardingOff, format!("sysctl {sysctl}"), says)
    })
}

fn stale_flows(case: &Case<'_>) -> Option<Finding> {
    let served: BTreeSet<_> = case.endpoints().collect();
    // A forwarder's own connections are not among these.
    let stale: Vec<_> =
        case.existing.iter().filter(|existing| !served.contains(&existing.endpoint)).collect();
    let first = stale.first()?;
    let (port, endpoint) = (first.source_port, first.endpoint);
    let look_at = format!("`conntrack -L -s {} -d {}`", case.packet.source, case.packet.destination.ip());
    let more = match stale.len() - 1 {
        0 => String::new(),
        more => format!(" So it is with {more} more."),
    };
    Some(match case.packet.protocol {
        Protocol::Tcp => {
            let says = format!(
                "The open connection from port {port} stays with {endpoint}, where no new one goes.{more}"
            );
            Finding::note(Matter::StaleFlow, look_at, says)
        }
        Protocol::Udp | Protocol::Sctp => {
            let says = format!(
                "What is sent from port {port} still goes to {endpoint}, which rules do not lead to.{more}"
            );
            Finding::stop(Matter::StaleFlow, look_at, says)
        }
    })
}

fn daemon(case: &Case<'_>) -> Vec<Finding> {
    const LOG: &str = "the log of pointsman on this node";
    let mut findings = Vec::new();
    if let Err(why) = case.view {
        let says = format!("Nothing is known of Services, and rules may be old: {why}.");
        findings.push(Finding::note(Matter::DaemonNotRunning, "the pointsman of this node", says));
    }
    let Some(status) = case.status else { return findings };
    match (&status.last_synced, &status.last_error) {
        (None, error) => {
            let why = error.as_deref().unwrap_or("it has not heard of all objects yet");
            let says = format!("Pointsman has not programmed this node since it started: {why}.");
            findings.push(Finding::note(Matter::NeverSynced, LOG, says));
        }
        (Some(_), Some(error)) => {
            let says = format!("Pointsman could not carry the last changes out: {error}.");
            findings.push(Finding::note(Matter::SyncFailed, LOG, says));
        }
        (Some(_), None) => {}
    }
    if let Some(rules) = case.rules.filter(|rules| status.mode != *rules && status.mode != "userspace") {
        let says = format!("Pointsman runs in {} mode, but rules of {rules} mode decide.", status.mode);
        findings.push(Finding::note(Matter::OtherMode, "`pointsman status`", says));
    }
    findings
}
