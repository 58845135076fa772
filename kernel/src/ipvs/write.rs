//! Writing requests (`ip_vs_genl_parse_service` and `ip_vs_genl_parse_dest` are what reads them).

use std::net::IpAddr;

use super::types::{Frontend, Operation, Server, Target, Timeouts};
use super::uapi::{
    AF_INET, AF_INET6, FAMILY, MASQUERADE, VERSION, attribute, command, control, destination, flag, service,
};
use crate::netlink::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Writer};

/// Asks which number the family has.
pub(super) fn family(writer: &mut Writer, sequence: u32) {
    let header = [control::GETFAMILY, control::VERSION, 0, 0];
    writer.message_with(control::KIND, NLM_F_REQUEST | NLM_F_ACK, sequence, header, |w| {
        w.string(control::FAMILY_NAME, FAMILY);
    });
}

/// Messages to the family of a number.
#[derive(Clone, Copy)]
pub(super) struct Requests(pub(super) u16);

impl Requests {
    /// A request that is answered, or refused, and acknowledged.
    pub(super) fn ask(self, command: u8, sequence: u32, body: impl FnOnce(&mut Writer)) -> Writer {
        let mut writer = Writer::default();
        self.message(&mut writer, command, NLM_F_REQUEST | NLM_F_ACK, sequence, body);
        writer
    }

    /// A request for a list.
    pub(super) fn list(self, command: u8, sequence: u32, body: impl FnOnce(&mut Writer)) -> Writer {
        let mut writer = Writer::default();
        self.message(&mut writer, command, NLM_F_REQUEST | NLM_F_DUMP, sequence, body);
        writer
    }

    /// Appends a change, which is to be acknowledged.
    pub(super) fn operation(self, writer: &mut Writer, operation: &Operation, sequence: u32) {
        let command = match operation {
            Operation::AddServer(_) => command::NEW_SERVICE,
            Operation::SetServer(_) => command::SET_SERVICE,
            Operation::RemoveServer(_) => command::DEL_SERVICE,
            Operation::AddDestination(..) => command::NEW_DEST,
            Operation::SetDestination(..) => command::SET_DEST,
            Operation::RemoveDestination(..) => command::DEL_DEST,
        };
        self.message(writer, command, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| match operation {
            Operation::AddServer(server) | Operation::SetServer(server) => described(w, server),
            Operation::RemoveServer(frontend) => identified(w, *frontend),
            Operation::AddDestination(of, target, weight) | Operation::SetDestination(of, target, weight) => {
                identified(w, *of);
                dest(w, *target, Some(*weight));
            }
            Operation::RemoveDestination(of, target) => {
                identified(w, *of);
                dest(w, *target, None);
            }
        });
    }

    fn message(
        self,
        writer: &mut Writer,
        command: u8,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Writer),
    ) {
        writer.message_with(self.0, flags, sequence, [command, VERSION, 0, 0], body);
    }
}

/// A virtual server by what identifies it.
pub(super) fn identified(w: &mut Writer, frontend: Frontend) {
    w.nest(attribute::SERVICE, |w| identity(w, frontend));
}

/// A virtual server with all that the kernel wants of a new one. The kernel takes the flags of the mask, which is all
/// of them, from us, and keeps what is not in the mask.
fn described(w: &mut Writer, server: &Server) {
    let persistent = if server.persistence.is_some() { flag::PERSISTENT } else { 0 };
    let flags = server.scheduler.flags() | persistent;
    let all = if server.frontend.is_ipv6() { 128 } else { 32 };
    let (seconds, prefix) = server.persistence.map_or((0, all), |found| (found.seconds, found.prefix));
    w.nest(attribute::SERVICE, |w| {
        identity(w, server.frontend);
        w.string(service::SCHED_NAME, server.scheduler.as_str());
        w.attribute(service::FLAGS, &[flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
        number(w, service::TIMEOUT, seconds);
        // A mask over IPv4; over IPv6 a number of bits, although in an attribute of the same name.
        if server.frontend.is_ipv6() {
            number(w, service::NETMASK, u32::from(prefix));
        } else {
            w.be32(service::NETMASK, mask(prefix));
        }
    });
}

fn identity(w: &mut Writer, frontend: Frontend) {
    let family = if frontend.is_ipv6() { AF_INET6 } else { AF_INET };
    w.attribute(service::AF, &family.to_ne_bytes());
    match frontend {
        Frontend::Address { address, protocol, port } => {
            w.attribute(service::PROTOCOL, &u16::from(protocol).to_ne_bytes());
            w.attribute(service::ADDR, &octets(address));
            w.attribute(service::PORT, &port.to_be_bytes());
        }
        Frontend::Mark { mark, .. } => number(w, service::FWMARK, mark),
    }
}

/// A destination by what identifies it and, if it is to be created or changed, with all that the kernel wants then.
fn dest(w: &mut Writer, target: Target, weight: Option<u32>) {
    let family = if target.address.is_ipv6() { AF_INET6 } else { AF_INET };
    w.nest(attribute::DEST, |w| {
        w.attribute(destination::ADDR_FAMILY, &family.to_ne_bytes());
        w.attribute(destination::ADDR, &octets(target.address));
        w.attribute(destination::PORT, &target.port.to_be_bytes());
        if let Some(weight) = weight {
            number(w, destination::FWD_METHOD, MASQUERADE);
            number(w, destination::WEIGHT, weight);
            number(w, destination::U_THRESH, 0);
            number(w, destination::L_THRESH, 0);
        }
    });
}

pub(super) fn timeouts(w: &mut Writer, timeouts: Timeouts) {
    number(w, attribute::TIMEOUT_TCP, timeouts.tcp);
    number(w, attribute::TIMEOUT_TCP_FIN, timeouts.tcp_fin);
    number(w, attribute::TIMEOUT_UDP, timeouts.udp);
}

/// A number in host order.
fn number(w: &mut Writer, kind: u16, value: u32) {
    w.attribute(kind, &value.to_ne_bytes());
}

/// An address as `union nf_inet_addr` has it: 16 bytes, of which IPv4 uses the first.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The mask of a prefix; of one longer than 32, as of 32.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(prefix))).unwrap_or_default()
}
