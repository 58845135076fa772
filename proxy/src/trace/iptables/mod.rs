//! The way of a packet through the rules of iptables: of whichever back end has ours, and through everything else that
//! is on the way. Start reading at [`walk`], then `course.rs`.

mod answer;
mod course;
mod kept;
mod matches;
mod rule;
mod tables;
mod target;
#[cfg(test)]
pub(super) mod tests;
mod traveller;
mod words;

use anyhow::Result;

use super::model::{Origin, Packet, Surroundings, Walk};
pub(super) use answer::World;
pub(super) use course::{Course, Hook};
pub(super) use kept::InKernel;
#[cfg(test)]
pub(super) use kept::{Kept, Set};
pub(super) use tables::{Table, Tables};
pub(super) use traveller::Traveller;

/// What the rules of iptables mode, ours or kube-proxy's, do with a packet, and so those of userspace mode led by it.
/// `None` if there are none.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn walk(packet: &Packet, around: &dyn Surroundings) -> Result<Option<Walk>> {
    let tables = Tables::read(packet.destination.is_ipv6())?;
    if !tables.iter().any(is_of_this_mode) {
        return Ok(None);
    }
    evaluate(&tables, packet, World { around, kept: &InKernel::default() }).map(Some)
}

/// Whether there are this mode's chains: ipvs has one of them too.
fn is_of_this_mode(tables: &Tables) -> bool {
    ["KUBE-SERVICES", "KUBE-NODEPORTS"].iter().all(|chain| tables.has(Table::Nat, chain))
}

/// The same on rules that have been read.
fn evaluate(tables: &[Tables], packet: &Packet, world: World<'_>) -> Result<Walk> {
    let mut course = Course::new(tables, world);
    let start = vec![Traveller::new(packet)];
    let arrived = match packet.origin {
        Origin::Node => {
            let sent = course.pass(start, Hook::Output)?;
            course.send(sent)?
        }
        Origin::Interface { .. } => {
            let routed = course.pass(start, Hook::Prerouting)?;
            let (here, on) = course.split(routed);
            let mut arrived = course.pass(here, Hook::Input)?;
            let forwarded = course.pass(on, Hook::Forward)?;
            arrived.extend(course.pass(forwarded, Hook::Postrouting)?);
            arrived
        }
    };
    Ok(course.finish(arrived))
}

impl Course<'_> {
    /// What this node sends goes out, and comes in again if it is for itself: by `lo`, and translated already.
    pub(super) fn send(&mut self, party: Vec<Traveller>) -> Result<Vec<Traveller>> {
        let out = self.pass(party, Hook::Postrouting)?;
        let (mut here, mut arrived) = self.split(out);
        here.iter_mut().for_each(|one| one.headers.input = Some("lo".to_owned()));
        let come = self.pass_some(here, Hook::Prerouting, &[Table::Mangle])?;
        arrived.extend(self.pass_some(come, Hook::Input, &[Table::Mangle, Table::Filter])?);
        Ok(arrived)
    }
}
