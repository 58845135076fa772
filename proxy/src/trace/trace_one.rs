//! What becomes of a connection to one address.

use std::net::SocketAddr;

use super::connections::{self, Existing};
use super::diagnose::{self, Case, Facts};
use super::model::{End, Origin, Packet, Step, Surroundings, Way};
use super::policies;
use super::query::Query;
use super::report::{ExistingReport, Outcome, Trace, WayReport};
use super::surroundings::Node;
use super::target::Target;
use super::walks::{self, Walks};
use super::{Known, forwarder};
use crate::view::frontend::{self, Frontend, Kind};

/// Traces it.
///
/// # Errors
/// When nobody can connect from there, or the kernel does not tell.
pub(super) fn trace(query: &Query, target: Target, known: &Known, node: &Node) -> anyhow::Result<Trace> {
    let client = node.client(query.whence, target.to.ip())?;
    let Target { to, protocol, meant } = target;
    let packet = Packet { source: client.address, destination: to, protocol, origin: client.origin };
    let mut walks = walks::walk(&packet, node)?;
    let is_carried = carry_on(&mut walks, known, &packet);
    let existing = existing(&packet, &mut walks);
    let is_local = node.is_local(to.ip());
    let view = known.view.as_ref().map_err(String::as_str);
    let frontend = view.ok().and_then(|view| frontend::find(view, to, protocol, is_local));
    let mut policies = policies::say(known, &packet, &mut walks, frontend);
    // The forwarder keeps a client's address where it can, which the rules that were walked through do not tell.
    policies.comparable &= !is_carried;
    let case = Case {
        packet: &packet,
        rules: walks.rules,
        ways: &walks.walk.ways,
        frontend,
        meant: meant.as_deref(),
        view,
        status: known.status.as_ref(),
        existing: if is_carried { &[] } else { &existing },
        facts: Facts {
            // The forwarder's own packets come from this node.
            forwards: node.forwards(to.is_ipv4()).filter(|_| !is_carried),
            ..facts(&packet, &walks, frontend, node)
        },
        policies: &policies,
    };
    let findings = diagnose::findings(&case);
    let sight = Sight { packet: &packet, frontend, node, is_carried };
    let (steps, ways) = split(&sight, &walks.walk.ways);
    Ok(Trace {
        source: Some(packet.source),
        interface: interface(&packet),
        destination: Some(to),
        protocol: Some(protocol.to_string()),
        service: frontend.map(|frontend| frontend.name()),
        frontend: frontend.map(|frontend| frontend.kind.name().to_owned()),
        rules: walks.rules.map(str::to_owned),
        also_there: walks.also_there,
        steps,
        ways,
        policies: policies.judged,
        existing: existing.iter().map(told).collect(),
        findings,
        unknown: walks.walk.unknown,
    })
}

fn interface(packet: &Packet) -> Option<String> {
    match &packet.origin {
        Origin::Node => None,
        Origin::Interface { name, .. } => Some(name.clone()),
    }
}

/// Beyond the rules, where userspace mode carries connections. Says whether it carries this one.
fn carry_on(walks: &mut Walks, known: &Known, packet: &Packet) -> bool {
    let Some(status) = &known.status else { return false };
    let ways = &mut walks.walk.ways;
    let is_untranslated = ways.iter().all(|way| matches!(way.end, End::Untranslated { .. }));
    if is_untranslated && let Some(way) = forwarder::at(status, packet.destination, packet.protocol) {
        *ways = vec![way];
    }
    forwarder::go_on(ways, status, packet.protocol)
}

fn existing(packet: &Packet, walks: &mut Walks) -> Vec<Existing> {
    connections::existing(packet).unwrap_or_else(|error| {
        walks.walk.unknown.push(format!("connections that are there already: {error}"));
        Vec::new()
    })
}

fn told(existing: &Existing) -> ExistingReport {
    ExistingReport { source_port: existing.source_port, endpoint: existing.endpoint }
}

fn facts(packet: &Packet, walks: &Walks, frontend: Option<Frontend<'_>>, node: &Node) -> Facts {
    let endpoints: Vec<SocketAddr> = walks.walk.ways.iter().filter_map(endpoint).collect();
    let is_node_port = frontend.is_some_and(|frontend| frontend.kind == Kind::NodePort);
    let answers_at = (is_node_port && endpoints.is_empty()).then(|| elsewhere(packet, node)).flatten();
    let unreachable = endpoints.iter().copied().filter(|to| node.way(to.ip()).is_none()).collect();
    Facts {
        destination_is_local: node.is_local(packet.destination.ip()),
        forwards: None,
        unreachable,
        serves_itself: endpoints.iter().any(|to| node.is_local(to.ip())),
        answers_at,
    }
}

fn endpoint(way: &Way) -> Option<SocketAddr> {
    match way.end {
        End::Endpoint { to, .. } => Some(to),
        _ => None,
    }
}

/// Another address of the node's at which the same port is translated.
fn elsewhere(packet: &Packet, node: &Node) -> Option<std::net::IpAddr> {
    let address = node.own_address(packet.destination.is_ipv4())?;
    let destination = SocketAddr::new(address, packet.destination.port());
    let other = Packet { destination, ..packet.clone() };
    let walks = walks::walk(&other, node).ok()?;
    let is_served =
        destination != packet.destination && walks.walk.ways.iter().any(|way| endpoint(way).is_some());
    is_served.then_some(address)
}

/// What it takes to tell of a way.
struct Sight<'a> {
    packet: &'a Packet,
    frontend: Option<Frontend<'a>>,
    node: &'a Node,
    /// Whether the forwarder carries it.
    is_carried: bool,
}

/// What all ways begin with, and the ways without it.
fn split(sight: &Sight<'_>, ways: &[Way]) -> (Vec<Step>, Vec<WayReport>) {
    let first = ways.first().map(|way| way.steps.as_slice()).unwrap_or_default();
    let alike = |way: &Way| first.iter().zip(&way.steps).take_while(|(a, b)| a == b).count();
    let common = ways.iter().map(alike).min().unwrap_or_default();
    let ways = ways.iter().map(|way| tell(sight, way, common)).collect();
    (first[..common].to_vec(), ways)
}

fn tell(sight: &Sight<'_>, way: &Way, common: usize) -> WayReport {
    let (outcome, endpoint, masquerade) = match way.end {
        End::Endpoint { to, masquerade } => (Outcome::Endpoint, Some(to), Some(masquerade)),
        End::Untranslated { masquerade } => (Outcome::Untranslated, None, Some(masquerade)),
        End::Rejected => (Outcome::Rejected, None, None),
        End::Dropped => (Outcome::Dropped, None, None),
    };
    // The forwarder keeps a client's address where answers are sure to come back.
    let masquerade = masquerade.filter(|_| !sight.is_carried);
    let to = endpoint.unwrap_or(sight.packet.destination).ip();
    let seen_as = match masquerade {
        Some(true) => sight.node.masquerade_address(to),
        Some(false) => Some(sight.packet.source),
        None => None,
    };
    let known = sight.frontend.zip(endpoint).and_then(|(frontend, endpoint)| {
        frontend.port.endpoints.iter().find(|known| known.address == endpoint)
    });
    let difference = sight.frontend.zip(endpoint);
    WayReport {
        share: way.share,
        outcome,
        endpoint,
        masquerade,
        seen_as,
        node: known.and_then(|known| known.node.clone()),
        local: known.map(|known| known.local),
        steps: way.steps[common..].to_vec(),
        difference: difference.and_then(|(frontend, endpoint)| diagnose::difference(&frontend, endpoint)),
    }
}
