//! Listing and changing routes, many at a time.

use std::net::IpAddr;

use nix::errno::Errno;

use super::connection::{Routes, address, host32, number};
use super::entry::{Route, RouteEdit, Scope};
use super::read;
use super::types::Family;
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, DELROUTE, GETROUTE, NEWROUTE, ONLINK, RTA_DST, RTA_GATEWAY, RTA_METRICS,
    RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTAX_MTU, RTMSG, SCOPE_LINK, UNICAST,
    UNREACHABLE,
};
use crate::Error;
use crate::netlink::{
    NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, Refusal, Writer,
};

/// Changes sent at a time, so that the answers fit the receive buffer even if every one is refused.
const PIPELINE: usize = 256;

impl Routes {
    /// The routes of all tables, of one family or both, of one protocol or any: those with one way to go and those that
    /// are unreachable. Others (several ways at once, this host's own addresses) are left out.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list(&mut self, family: Option<Family>, protocol: Option<u8>) -> Result<Vec<Route>, Error> {
        let mut header = [0; RTMSG];
        header[0] = family.map_or(AF_UNSPEC, number);
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message_with(GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |_| {});
            writer
        };
        self.socket.dump("routes", request, |message, found| {
            let route = read::route(message);
            found.extend(route.filter(|route| protocol.is_none_or(|protocol| route.protocol == protocol)));
        })
    }

    /// Makes changes, in this order. Returns those that were refused, by their place in `edits`; the others are made all
    /// the same.
    ///
    /// # Errors
    /// When the kernel cannot be spoken to: which changes were made is not known then.
    pub fn run(&mut self, edits: &[RouteEdit]) -> Result<Vec<(usize, Error)>, Error> {
        let mut refused = Vec::new();
        for (round, chunk) in edits.chunks(PIPELINE).enumerate() {
            let refusals = self.run_chunk(chunk)?;
            refused.extend(refusals.into_iter().map(|(at, error)| (round * PIPELINE + at, error)));
        }
        Ok(refused)
    }

    fn run_chunk(&mut self, edits: &[RouteEdit]) -> Result<Vec<(usize, Error)>, Error> {
        let count = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let first = self.socket.next_sequence(count);
        let mut writer = Writer::default();
        for (sequence, edit) in (first..).zip(edits) {
            write_edit(&mut writer, sequence, edit);
        }
        let (_, refusals) = self.socket.exchange(&writer, || "change routes".to_owned())?;
        let refused = refusals.into_iter().filter_map(|Refusal { sequence, errno, extended, .. }| {
            let at = sequence.wrapping_sub(first) as usize;
            let edit = edits.get(at)?;
            let error = || (at, Error::from_errno(edit.to_string(), errno, extended));
            (!is_so_already(edit, errno)).then(error)
        });
        Ok(refused.collect())
    }
}

fn is_so_already(edit: &RouteEdit, errno: Errno) -> bool {
    match edit {
        RouteEdit::Add(_) | RouteEdit::Append(_) => errno == Errno::EEXIST,
        // A device takes its routes with it.
        RouteEdit::Remove(_) => matches!(errno, Errno::ESRCH | Errno::ENODEV),
        RouteEdit::Create(_) | RouteEdit::Replace(_) => false,
    }
}

/// Only its refusal is answered.
fn write_edit(writer: &mut Writer, sequence: u32, edit: &RouteEdit) {
    let (kind, flags) = match edit {
        RouteEdit::Add(_) | RouteEdit::Create(_) => (NEWROUTE, NLM_F_CREATE | NLM_F_EXCL),
        RouteEdit::Replace(_) => (NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
        RouteEdit::Append(_) => (NEWROUTE, NLM_F_CREATE | NLM_F_APPEND),
        RouteEdit::Remove(_) => (DELROUTE, 0),
    };
    let route = edit.route();
    let mut header = [0; RTMSG];
    header[0] = if route.destination.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    header[1] = route.destination.prefix_len();
    header[5] = route.protocol;
    header[6] = if route.scope == Scope::Link { SCOPE_LINK } else { 0 };
    header[7] = if route.link == 0 { UNREACHABLE } else { UNICAST };
    if route.onlink {
        header[8..].copy_from_slice(&ONLINK.to_ne_bytes());
    }
    writer.message_with(kind, NLM_F_REQUEST | flags, sequence, header, |w| write_attributes(w, route));
}

fn write_attributes(w: &mut Writer, route: &Route) {
    address(w, RTA_DST, route.destination.network());
    host32(w, RTA_TABLE, route.table);
    if route.link != 0 {
        host32(w, RTA_OIF, route.link);
    }
    match route.gateway {
        Some(IpAddr::V6(gateway)) if route.destination.addr().is_ipv4() => {
            let mut via = [0; 18];
            via[..2].copy_from_slice(&u16::from(AF_INET6).to_ne_bytes());
            via[2..].copy_from_slice(&gateway.octets());
            w.attribute(RTA_VIA, &via);
        }
        Some(gateway) => address(w, RTA_GATEWAY, gateway),
        None => {}
    }
    if let Some(source) = route.source {
        address(w, RTA_PREFSRC, source);
    }
    if let Some(metric) = route.metric {
        host32(w, RTA_PRIORITY, metric);
    }
    if let Some(mtu) = route.mtu {
        w.nest(RTA_METRICS, |w| host32(w, RTAX_MTU, mtu));
    }
}
