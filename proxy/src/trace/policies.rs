//! What policies say of a connection: for each that it may reach, whether it is allowed, or by whom it is denied.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use policy::Connection;

use super::model::{End, Packet, Way};
use super::walks::Walks;
use super::{Known, diagnose};
use crate::policy::tools::Judgement;
use crate::status::Status;
use crate::view::frontend::Frontend;

/// What steps begin with that are met in the rules of policies, by nftables.
const NFTABLES: &str = "pointsman-policy ";
/// The same by iptables; the name of a chain follows.
const IPTABLES: &str = "filter ";

/// What they say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// One for each that it may reach.
    pub(super) judged: Vec<Judgement>,
    /// How many ways end in the rules of policies.
    pub(super) stopped: usize,
    /// Whether the rules that were walked through should say the same.
    pub(super) comparable: bool,
}

/// Asks what is known of policies. That nothing can be known is told with what could not be evaluated.
pub(super) fn say(known: &Known, packet: &Packet, walks: &mut Walks, frontend: Option<Frontend<'_>>) -> Said {
    let stopped = walks.walk.ways.iter().filter(|way| is_stopped(way)).count();
    let cluster = match &known.policies {
        None => return Said { stopped, ..Said::default() },
        Some(Err(why)) => {
            walks.walk.unknown.push(why.clone());
            return Said { stopped, ..Said::default() };
        }
        Some(Ok(cluster)) => cluster,
    };
    let judge = |to: SocketAddr| {
        let (source, protocol) = (packet.source, packet.protocol);
        cluster.judge(&Connection { source, destination: to.ip(), protocol, port: to.port() })
    };
    let judged = reached(packet, &walks.walk.ways, frontend).into_iter().map(judge).collect();
    let is_walked = is_walked(known.status.as_ref(), walks.rules);
    Said { judged, stopped, comparable: is_walked && !cluster.is_audited() && walks.walk.unknown.is_empty() }
}

/// Whether the rules of policies are among those that were walked through.
fn is_walked(status: Option<&Status>, rules: Option<&str>) -> bool {
    let by = status.and_then(|status| status.policies.as_ref()).map(|policies| policies.enforced_by.as_str());
    by.is_some() && by == rules
}

/// Whether a way ends in the rules of policies.
fn is_stopped(way: &Way) -> bool {
    matches!(way.end, End::Rejected | End::Dropped)
        && way.steps.last().is_some_and(|step| {
            let chain = step.place.strip_prefix(IPTABLES);
            step.place.starts_with(NFTABLES) || chain.is_some_and(policy::iptables::is_own_chain)
        })
}

/// Whom it may reach, were it not for policies: those that rules lead to, and where policies stop it, those that the
/// Service has.
fn reached(packet: &Packet, ways: &[Way], frontend: Option<Frontend<'_>>) -> BTreeSet<SocketAddr> {
    let of_way = |way: &Way| -> Vec<SocketAddr> {
        match (&way.end, &frontend) {
            (End::Endpoint { to, .. }, _) => vec![*to],
            (End::Untranslated { .. }, None) => vec![packet.destination],
            (End::Rejected | End::Dropped, _) if !is_stopped(way) => Vec::new(),
            (End::Rejected | End::Dropped, None) => vec![packet.destination],
            (End::Rejected | End::Dropped, Some(frontend)) => {
                let allowed = diagnose::allowed(frontend, packet.destination.is_ipv4());
                allowed.into_iter().flatten().collect()
            }
            (End::Untranslated { .. }, Some(_)) => Vec::new(),
        }
    };
    ways.iter().flat_map(of_way).collect()
}
