//! The way of a packet through IPVS: virtual servers choose endpoints, and the rules of iptables around them decide who
//! may come to them and who is masqueraded. Start reading at [`walk`].

mod choice;
#[cfg(test)]
mod tests;

use anyhow::Result;
use kernel::ipvs::Ipvs;

use super::iptables::{Course, Hook, InKernel, Table, Tables, Traveller, World};
use super::model::{Origin, Packet, Surroundings, Walk};
use choice::{InKernel as ServersInKernel, Servers};

/// What ipvs mode, ours or kube-proxy's, does with a packet. `None` if its rules are not there.
///
/// # Errors
/// When they, or virtual servers, cannot be read.
pub(crate) fn walk(packet: &Packet, around: &dyn Surroundings) -> Result<Option<Walk>> {
    let tables = Tables::read(packet.destination.is_ipv6())?;
    if !tables.iter().any(is_of_this_mode) {
        return Ok(None);
    }
    let mut servers = ServersInKernel(Ipvs::open()?);
    evaluate(&tables, &mut servers, packet, World { around, kept: &InKernel::default() }).map(Some)
}

/// Whether there are this mode's chains: iptables mode has one of them too.
fn is_of_this_mode(tables: &Tables) -> bool {
    ["KUBE-SERVICES", "KUBE-NODE-PORT"].iter().all(|chain| tables.has(Table::Nat, chain))
}

/// The same on rules that have been read.
fn evaluate(tables: &[Tables], servers: &mut dyn Servers, packet: &Packet, world: World<'_>) -> Result<Walk> {
    let mut course = Course::new(tables, world);
    let start = vec![Traveller::new(packet)];
    let arrived = match packet.origin {
        Origin::Node => sent(&mut course, servers, start)?,
        Origin::Interface { .. } => come_in(&mut course, servers, start)?,
    };
    Ok(course.finish(arrived))
}

/// What this node sends meets virtual servers behind table `nat` of hook output, and before `filter`.
fn sent(course: &mut Course<'_>, servers: &mut dyn Servers, start: Vec<Traveller>) -> Result<Vec<Traveller>> {
    let ready = course.pass_some(start, Hook::Output, &[Table::Raw, Table::Mangle, Table::Nat])?;
    let (led, others) = lead(servers, ready)?;
    let (here, away) = course.split(led);
    // It is sent anew.
    let mut out = course.pass_some(away, Hook::Output, &[Table::Mangle, Table::Filter])?;
    let stays = here.into_iter().chain(others).collect();
    out.extend(course.pass_some(stays, Hook::Output, &[Table::Filter])?);
    course.send(out)
}

/// What comes in meets them behind table `filter` of hook input, if it is for an address of this node.
fn come_in(
    course: &mut Course<'_>,
    servers: &mut dyn Servers,
    start: Vec<Traveller>,
) -> Result<Vec<Traveller>> {
    let routed = course.pass(start, Hook::Prerouting)?;
    let (here, on) = course.split(routed);
    let let_in = course.pass_some(here, Hook::Input, &[Table::Mangle, Table::Filter])?;
    let (led, others) = lead(servers, let_in)?;
    let (mut arrived, mut away) = course.split(led);
    // What goes to an endpoint elsewhere is sent as if this node sent it, without having been forwarded.
    away.iter_mut().for_each(|one| one.headers.input = None);
    let away = course.pass_some(away, Hook::Output, &[Table::Mangle, Table::Filter])?;
    let forwarded = course.pass(on, Hook::Forward)?;
    arrived.extend(others);
    for out in [away, forwarded] {
        arrived.extend(course.pass(out, Hook::Postrouting)?);
    }
    Ok(arrived)
}

/// Hands packets to virtual servers. Those that one has taken, and the others.
fn lead(servers: &mut dyn Servers, party: Vec<Traveller>) -> Result<(Vec<Traveller>, Vec<Traveller>)> {
    let (mut led, mut others) = (Vec::new(), Vec::new());
    for traveller in party {
        match choice::choose(servers, &traveller)? {
            Some(ways) => led.extend(ways),
            None => others.push(traveller),
        }
    }
    Ok((led, others))
}
