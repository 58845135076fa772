//! The way to the kernel: changes rules and routes, and asks for ways.

use std::fmt::Display;
use std::net::IpAddr;

use nix::errno::Errno;

use super::read;
use super::types::{AddressRoute, Change, Family, LocalRoute, MarkRule, Way};
use super::uapi::{
    AF_INET, AF_INET6, DELROUTE, DELRULE, FIB_RULE_HDR, FRA_FWMARK, FRA_FWMASK, FRA_PRIORITY, FRA_PROTOCOL,
    FRA_TABLE, GETROUTE, LOCAL, NEWROUTE, NEWRULE, RTA_DST, RTA_MARK, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY,
    RTA_TABLE, RTMSG, SCOPE_HOST, STATIC, TABLE_LOCAL, TO_TABLE,
};
use crate::Error;
use crate::netlink::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Protocol, Socket, Writer};

/// The kernel's own routes of addresses have 0, and those of lower numbers count.
const AFTER_ADDRESSES: u32 = 1024;

/// A connection to the routing of the network namespace that the process is in.
pub struct Routes {
    pub(super) socket: Socket,
}

impl Routes {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// The connection's port: changes made through it bear this number.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Makes or removes a rule; says whether that changed anything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rule(&mut self, change: Change, rule: &MarkRule) -> Result<bool, Error> {
        let mut header = [0; FIB_RULE_HDR];
        (header[0], header[7]) = (number(rule.family), TO_TABLE);
        let (kind, gone) = match change {
            Change::Add => (NEWRULE, Errno::EEXIST),
            Change::Remove => (DELRULE, Errno::ENOENT),
        };
        self.command(change, rule, kind, header, gone, |w| {
            host32(w, FRA_PRIORITY, rule.priority);
            host32(w, FRA_FWMARK, rule.mark);
            host32(w, FRA_FWMASK, rule.mask);
            host32(w, FRA_TABLE, rule.table);
            w.attribute(FRA_PROTOCOL, &[STATIC]);
        })
    }

    /// Makes or removes a route; says whether that changed anything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn local_route(&mut self, change: Change, route: &LocalRoute) -> Result<bool, Error> {
        let mut header = [0; RTMSG];
        (header[0], header[5], header[6], header[7]) = (number(route.family), STATIC, SCOPE_HOST, LOCAL);
        let (kind, gone) = match change {
            Change::Add => (NEWROUTE, Errno::EEXIST),
            Change::Remove => (DELROUTE, Errno::ESRCH),
        };
        self.command(change, route, kind, header, gone, |w| {
            host32(w, RTA_OIF, route.link);
            host32(w, RTA_TABLE, route.table);
        })
    }

    /// Makes or removes a route of a single address; says whether that changed anything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn address_route(&mut self, change: Change, route: &AddressRoute) -> Result<bool, Error> {
        let mut header = [0; RTMSG];
        (header[0], header[1]) = family_and_length(route.address);
        (header[5], header[6], header[7]) = (STATIC, SCOPE_HOST, LOCAL);
        let (kind, gone) = match change {
            Change::Add => (NEWROUTE, Errno::EEXIST),
            Change::Remove => (DELROUTE, Errno::ESRCH),
        };
        self.command(change, route, kind, header, gone, |w| {
            address(w, RTA_DST, route.address);
            host32(w, RTA_OIF, route.link);
            host32(w, RTA_TABLE, TABLE_LOCAL);
            host32(w, RTA_PRIORITY, AFTER_ADDRESSES);
            if let Some(source) = route.source {
                address(w, RTA_PREFSRC, source);
            }
        })
    }

    /// The way that packets to an address take which have this mark; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn way(&mut self, to: IpAddr, mark: u32) -> Result<Option<Way>, Error> {
        let mut header = [0; RTMSG];
        (header[0], header[1]) = family_and_length(to);
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message_with(GETROUTE, NLM_F_REQUEST | NLM_F_ACK, sequence, header, |w| {
                address(w, RTA_DST, to);
                host32(w, RTA_MARK, mark);
            });
            writer
        };
        let found = self.socket.dump(&format!("the way to {to}"), request, |message, found| {
            found.extend(read::way(message));
        });
        match found {
            Ok(found) => Ok(found.first().copied()),
            Err(Error::Refused { errno, .. }) if is_no_way(errno) => Ok(None),
            Err(Error::Permission { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one message that changes something. `so_already` is how the kernel says that it changes nothing.
    fn command(
        &mut self,
        change: Change,
        what: &impl Display,
        kind: u16,
        header: [u8; 12],
        so_already: Errno,
        body: impl FnOnce(&mut Writer),
    ) -> Result<bool, Error> {
        let operation = || format!("{change} {what}");
        let flags = if change == Change::Add { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        match self.socket.command(kind, flags, header, operation, body) {
            Err(Error::Refused { errno, .. }) if errno == so_already => Ok(false),
            done => done.map(|()| true),
        }
    }
}

/// How the kernel says that there is no way, or one that leads nowhere: `unreachable`, `blackhole`. A way that is
/// `prohibit` looks like a lack of permission.
fn is_no_way(errno: Errno) -> bool {
    matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL | Errno::ESRCH)
}

pub(super) fn number(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

fn family_and_length(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) }
}

pub(super) fn address(writer: &mut Writer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => writer.attribute(kind, &address.octets()),
        IpAddr::V6(address) => writer.attribute(kind, &address.octets()),
    }
}

pub(super) fn host32(writer: &mut Writer, kind: u16, value: u32) {
    writer.attribute(kind, &value.to_ne_bytes());
}
