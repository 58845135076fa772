//! Userspace mode: rules lead to the forwarder, and the forwarder to endpoints. Pure.

use std::net::SocketAddr;

use endpoint_cache::Protocol;

use super::model::{End, Step, Way};
use crate::status::{Status, Target};

/// The forwarder's endpoints take the place of ways that lead to it. Says whether there were any.
pub(super) fn go_on(ways: &mut Vec<Way>, status: &Status, protocol: Protocol) -> bool {
    let led = |way: &Way| match way.end {
        End::Endpoint { to, .. } => target(status, to, protocol),
        _ => None,
    };
    if !ways.iter().any(|way| led(way).is_some()) {
        return false;
    }
    let further = |way: Way| match led(&way) {
        Some(target) => through(&way, target),
        None => vec![way],
    };
    *ways = std::mem::take(ways).into_iter().flat_map(further).collect();
    true
}

/// The way to a place where the forwarder listens, without any rules.
pub(super) fn at(status: &Status, to: SocketAddr, protocol: Protocol) -> Option<Way> {
    target(status, to, protocol)?;
    Some(Way { share: 1.0, steps: Vec::new(), end: End::Endpoint { to, masquerade: false } })
}

fn target(status: &Status, at: SocketAddr, protocol: Protocol) -> Option<&Target> {
    status.targets.iter().find(|target| target.listens == at && target.protocol == protocol.as_str())
}

fn through(way: &Way, target: &Target) -> Vec<Way> {
    let place = format!("forwarder {}/{}", target.listens, target.protocol);
    let step = |what: String| Step { place: place.clone(), what };
    let met = |what| way.steps.iter().cloned().chain([step(what)]).collect();
    let usable: Vec<_> =
        target.endpoints.iter().filter(|endpoint| endpoint.set_aside_seconds.is_none()).collect();
    // If all have failed they are tried all the same.
    let usable = if usable.is_empty() { target.endpoints.iter().collect() } else { usable };
    if usable.is_empty() {
        let steps = met(format!("{} has no endpoint", target.service_port));
        return vec![Way { share: way.share, steps, end: End::Rejected }];
    }
    // As many as there are endpoints: a few hundred, which a float holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "endpoints are few")]
    let share = way.share / usable.len() as f64;
    let to = |to: SocketAddr| {
        let steps = met(format!("connects to {to} in turn"));
        Way { share, steps, end: End::Endpoint { to, masquerade: false } }
    };
    usable.into_iter().map(|endpoint| to(endpoint.address)).collect()
}
