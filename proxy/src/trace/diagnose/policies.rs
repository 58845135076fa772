//! Findings about policies: whom they deny it to, and whether the rules in the kernel say the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::endpoints::named;
use super::{Case, Finding, Matter};
use crate::policy::tools::Judgement;
use crate::trace::model::End;

/// All of them.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    denied(case).into_iter().chain(drift(case)).collect()
}

fn denied(case: &Case<'_>) -> Option<Finding> {
    let judged = &case.policies.judged;
    let denied: Vec<&Judgement> = judged.iter().filter(|judgement| !judgement.allowed).collect();
    let side = denied.first()?.denied_by()?;
    let to = named(&denied.iter().map(|judgement| address(judgement)).collect::<Vec<_>>());
    let says = format!("Policies deny it to {to}: {}: {}.", side.direction.as_str(), side.says);
    let policies = match &side.isolated_by[..] {
        [] => "the policies of this pod (`pointsman policy check`)".to_owned(),
        policies => format!("NetworkPolicy {}", policies.join(", ")),
    };
    Some(match denied.len() == judged.len() {
        true => Finding::stop(Matter::PolicyDenied, policies, says),
        false => Finding::note(Matter::PolicyDenied, policies, says),
    })
}

/// The rules were walked through: do they do what the process says?
fn drift(case: &Case<'_>) -> Option<Finding> {
    const LOOK_AT: &str = "the log of pointsman on this node";
    let said = case.policies;
    if !said.comparable {
        return None;
    }
    let passing: BTreeSet<SocketAddr> = case
        .ways
        .iter()
        .filter_map(|way| match way.end {
            End::Endpoint { to, .. } => Some(to),
            End::Untranslated { .. } => Some(case.packet.destination),
            End::Rejected | End::Dropped => None,
        })
        .collect();
    let wrongly: Vec<SocketAddr> = said
        .judged
        .iter()
        .filter(|judgement| judgement.is_denied_here() && passing.contains(&address(judgement)))
        .map(address)
        .collect();
    if !wrongly.is_empty() {
        let says =
            format!("Policies deny it to {}, but the rules in the kernel let it pass.", named(&wrongly));
        return Some(Finding::note(Matter::PolicyDrift, LOOK_AT, says));
    }
    let denies = said.judged.iter().any(Judgement::is_denied_here);
    (said.stopped > 0 && !denies).then(|| {
        let says =
            "The rules of policies in the kernel stop it, but the policies that pointsman knows allow it.";
        Finding::stop(Matter::PolicyDrift, LOOK_AT, says)
    })
}

fn address(judgement: &Judgement) -> SocketAddr {
    SocketAddr::new(judgement.to.address, judgement.port)
}
