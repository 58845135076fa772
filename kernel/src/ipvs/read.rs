//! Reading answers (`ip_vs_genl_fill_service` and `ip_vs_genl_fill_dest` are what writes them). Nothing here can panic,
//! whatever the bytes; what does not parse is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Scheduler;
use super::types::{Destination, Frontend, Persistence, Server, Target, Timeouts, Traffic};
use super::uapi::{
    AF_INET, AF_INET6, FORWARDING, MASQUERADE, attribute, control, destination, flag, service, stats,
};
use crate::netlink::{Attributes, Message};

/// The number of a family.
pub(super) fn family(message: &Message<'_>) -> Option<u16> {
    u16_of(message.attributes(), control::FAMILY_ID)
}

/// A virtual server.
pub(super) fn server(message: &Message<'_>) -> Option<Server> {
    let attributes = message.attributes().nested(attribute::SERVICE)?;
    let frontend = frontend(attributes)?;
    let flags = u32_of(attributes, service::FLAGS).unwrap_or_default();
    let name = attributes.get(service::SCHED_NAME)?.split(|byte| *byte == 0).next().unwrap_or_default();
    let persistence = (flags & flag::PERSISTENT != 0).then(|| Persistence {
        seconds: u32_of(attributes, service::TIMEOUT).unwrap_or_default(),
        prefix: prefix(attributes, frontend.is_ipv6()),
    });
    Some(Server { frontend, scheduler: Scheduler::told(name, flags), persistence })
}

fn frontend(attributes: Attributes<'_>) -> Option<Frontend> {
    let family = u16_of(attributes, service::AF)?;
    if let Some(mark) = u32_of(attributes, service::FWMARK) {
        let ipv6 = match family {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        return Some(Frontend::Mark { ipv6, mark });
    }
    Some(Frontend::Address {
        address: address(attributes.get(service::ADDR)?, family)?,
        protocol: u8::try_from(u16_of(attributes, service::PROTOCOL)?).ok()?,
        port: port(attributes, service::PORT)?,
    })
}

/// How many bits tell clients apart: over IPv4 from a mask, whose bits after the first 0 do not count.
fn prefix(attributes: Attributes<'_>, ipv6: bool) -> u8 {
    let bits = match ipv6 {
        true => u32_of(attributes, service::NETMASK).unwrap_or_default(),
        false => attributes.be32(service::NETMASK).unwrap_or_default().leading_ones(),
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// A destination of a virtual server. Before Linux 3.18 it did not say its family, since all were of the server's.
pub(super) fn destination(message: &Message<'_>, of: Frontend) -> Option<Destination> {
    let attributes = message.attributes().nested(attribute::DEST)?;
    let servers = if of.is_ipv6() { AF_INET6 } else { AF_INET };
    let family = u16_of(attributes, destination::ADDR_FAMILY).unwrap_or(servers);
    let number = |kind| u32_of(attributes, kind).unwrap_or_default();
    let counters = Counters::of(attributes);
    Some(Destination {
        target: Target {
            address: address(attributes.get(destination::ADDR)?, family)?,
            port: port(attributes, destination::PORT)?,
        },
        weight: u32_of(attributes, destination::WEIGHT)?,
        active: number(destination::ACTIVE_CONNS),
        inactive: number(destination::INACT_CONNS),
        persistent: number(destination::PERSIST_CONNS),
        masquerades: u32_of(attributes, destination::FWD_METHOD)? & FORWARDING == MASQUERADE,
        upper_threshold: number(destination::U_THRESH),
        lower_threshold: number(destination::L_THRESH),
        connections: counters.get(stats::CONNS),
        incoming: Traffic { packets: counters.get(stats::INPKTS), bytes: counters.get(stats::INBYTES) },
        outgoing: Traffic { packets: counters.get(stats::OUTPKTS), bytes: counters.get(stats::OUTBYTES) },
    })
}

/// Counters of a destination. `IPVS_DEST_ATTR_STATS` has them cut to 32 bits, but for the bytes; from Linux 4.1 on,
/// `IPVS_DEST_ATTR_STATS64` has them whole.
struct Counters<'a>(Attributes<'a>);

impl<'a> Counters<'a> {
    fn of(attributes: Attributes<'a>) -> Self {
        let whole = attributes.nested(destination::STATS64);
        Self(whole.or_else(|| attributes.nested(destination::STATS)).unwrap_or(Attributes(&[])))
    }

    /// In host order, in as many bytes as there are.
    fn get(&self, kind: u16) -> u64 {
        let bytes = self.0.get(kind).unwrap_or_default();
        let whole = <[u8; 8]>::try_from(bytes).map(u64::from_ne_bytes);
        let cut = <[u8; 4]>::try_from(bytes).map(u32::from_ne_bytes);
        whole.or_else(|_| cut.map(u64::from)).unwrap_or_default()
    }
}

/// The timeouts; of a protocol that the kernel was built without, 0.
pub(super) fn timeouts(message: &Message<'_>) -> Timeouts {
    let seconds = |kind| u32_of(message.attributes(), kind).unwrap_or_default();
    Timeouts {
        tcp: seconds(attribute::TIMEOUT_TCP),
        tcp_fin: seconds(attribute::TIMEOUT_TCP_FIN),
        udp: seconds(attribute::TIMEOUT_UDP),
    }
}

/// An address out of `union nf_inet_addr`, which has room for either family's.
fn address(union: &[u8], family: u16) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(union.get(..4)?).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(union.get(..16)?).ok()?).into()),
        _ => None,
    }
}

fn port(attributes: Attributes<'_>, kind: u16) -> Option<u16> {
    Some(u16::from_be_bytes(attributes.get(kind)?.get(..2)?.try_into().ok()?))
}

fn u16_of(attributes: Attributes<'_>, kind: u16) -> Option<u16> {
    Some(u16::from_ne_bytes(attributes.get(kind)?.get(..2)?.try_into().ok()?))
}

fn u32_of(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(attributes.get(kind)?.get(..4)?.try_into().ok()?))
}
