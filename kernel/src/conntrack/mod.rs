//! Finding, unmarking and removing flows in the connection tracking table, and hearing of them
//! (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! The kernel filters what it lists (`CTA_FILTER`), so that a node with a hundred thousand flows hands over only the
//! ones asked for; each is then removed by its own tuple and id, which cannot hit a flow that took its place.

pub(crate) mod event;
mod lookup;
mod marks;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use crate::Error;
use crate::netlink::{Attributes, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Protocol, Socket, Writer};

pub use event::{FlowChange, FlowEvent, Tuple};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Bit of `CTA_STATUS`: an answer was seen (`IPS_SEEN_REPLY`).
const SEEN_REPLY: u32 = 1 << 1;
/// Bit of `CTA_STATUS`: the destination is translated by netfilter (`IPS_DST_NAT`).
const DST_NAT: u32 = 1 << 5;

/// `TCP_CONNTRACK_LAST_ACK`: from this state on a connection is over, and remembered for stray packets.
const LAST_ACK: u8 = 6;

/// Bits of `CTA_FILTER`: which fields of the tuples given must match.
mod filter {
    pub(super) const IP_SRC: u32 = 1;
    pub(super) const IP_DST: u32 = 2;
    pub(super) const PROTO_NUM: u32 = 8;
    pub(super) const SRC_PORT: u32 = 16;
    pub(super) const DST_PORT: u32 = 32;
}

/// Deletions or changes sent at a time, so that their answers fit the receive buffer.
const PIPELINE: usize = 256;

/// Detours that are counted at most; flows of further ones are not.
const MOST_DETOURS: usize = 1 << 18;

/// Which flows to list; a field that is `None` matches any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// List IPv6 flows, else IPv4.
    pub ipv6: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Where the client sent to.
    pub destination: Option<IpAddr>,
    /// To which port.
    pub destination_port: Option<u16>,
    /// Who answers.
    pub replier: Option<IpAddr>,
    /// From which port.
    pub replier_port: Option<u16>,
    /// List only what nobody has answered and netfilter does not translate.
    pub lost: bool,
}

/// Has the kernel load connection tracking, if that is a module and nobody needed it yet. No flow matches what is asked.
///
/// # Errors
/// When there is none, or this process may not ask.
pub fn load() -> Result<(), Error> {
    let nothing = FlowFilter::any(false, 0);
    Conntrack::open()?.list(&nothing).map(drop)
}

impl FlowFilter {
    /// All flows of a protocol, by its IP protocol number.
    #[must_use]
    pub fn any(ipv6: bool, protocol: u8) -> Self {
        Self {
            ipv6,
            protocol,
            destination: None,
            destination_port: None,
            replier: None,
            replier_port: None,
            lost: false,
        }
    }

    fn matches(&self, flow: &Flow) -> bool {
        let address = |wanted: Option<IpAddr>, found| wanted.is_none_or(|wanted| wanted == found);
        let port = |wanted: Option<u16>, found| wanted.is_none_or(|wanted| wanted == found);
        flow.protocol == self.protocol
            && address(self.destination, flow.destination)
            && port(self.destination_port, flow.destination_port)
            && address(self.replier, flow.replier)
            && port(self.replier_port, flow.replier_port)
            && !(self.lost && (flow.answered || flow.by_netfilter))
    }
}

/// A flow, as far as it matters to who answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sent it.
    pub source: IpAddr,
    /// From which port.
    pub source_port: u16,
    /// Where the client sent to.
    pub destination: IpAddr,
    /// To which port.
    pub destination_port: u16,
    /// Who answers: another address than `destination` where that was translated.
    pub replier: IpAddr,
    /// From which port.
    pub replier_port: u16,
    /// Whether netfilter translates the destination. IPVS does it without.
    pub by_netfilter: bool,
    /// Whether anybody has answered.
    pub answered: bool,
    /// Whether it is a TCP connection that both sides have closed.
    pub closed: bool,
    tuple: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Flow {
    /// Whether whoever answers is whom the client sent to.
    #[must_use]
    pub fn is_untranslated(&self) -> bool {
        self.replier == self.destination
    }
}

/// Where flows were sent to, and who answers them instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Detour {
    /// IP protocol number.
    pub protocol: u8,
    /// Where clients sent to.
    pub destination: SocketAddr,
    /// Who answers.
    pub replier: SocketAddr,
}

/// A connection to the connection tracking table of the process's network namespace.
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// The flows that match.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn list(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, Error> {
        let request = |sequence| request(filter, sequence);
        let matching = |message: &Message<'_>, found: &mut Vec<Flow>| {
            found.extend(flow(message).filter(|flow| filter.matches(flow)));
        };
        self.socket.dump("conntrack entries", request, matching)
    }

    /// How many flows of a family and protocol are answered by somebody else than they were sent to, for each such pair;
    /// flows that have ended and are still remembered among them.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn count_detours(&mut self, ipv6: bool, protocol: u8) -> Result<HashMap<Detour, u64>, Error> {
        let all = FlowFilter::any(ipv6, protocol);
        let request = |sequence| request(&all, sequence);
        self.socket.dump_into("conntrack entries", request, |message, counts: &mut HashMap<Detour, u64>| {
            let found = detour(message).filter(|detour| {
                let elsewhere = detour.destination != detour.replier;
                elsewhere && detour.protocol == protocol && detour.destination.is_ipv6() == ipv6
            });
            if let Some(detour) = found
                && (counts.len() < MOST_DETOURS || counts.contains_key(&detour))
            {
                *counts.entry(detour).or_default() += 1;
            }
        })
    }

    /// Removes flows, and says how many were still there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        self.each_still_there("delete conntrack entries", flows, |w, sequence, flow| {
            let family = if flow.destination.is_ipv6() { AF_INET6 } else { AF_INET };
            w.message(DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence, (family, 0), |w| {
                w.attribute(CTA_TUPLE_ORIG | NESTED, &flow.tuple);
                w.attribute(CTA_ID, &flow.id);
                if let Some(zone) = &flow.zone {
                    w.attribute(CTA_ZONE, zone);
                }
            });
        })
    }

    /// Does something to each of some entries, and says how many were still there.
    fn each_still_there<T>(
        &mut self,
        operation: &str,
        entries: &[T],
        write: impl Fn(&mut Writer, u32, &T),
    ) -> Result<usize, Error> {
        let mut done = 0;
        for chunk in entries.chunks(PIPELINE) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let mut writer = Writer::default();
            for (sequence, entry) in (self.socket.next_sequence(count)..).zip(chunk) {
                write(&mut writer, sequence, entry);
            }
            let (acknowledged, refusals) = self.socket.exchange(&writer, || operation.to_owned())?;
            if let Some(refusal) = refusals.into_iter().find(|refusal| refusal.errno != Errno::ENOENT) {
                return Err(Error::from_errno(operation.to_owned(), refusal.errno, refusal.extended));
            }
            done += acknowledged;
        }
        Ok(done)
    }
}

const NESTED: u16 = 0x8000;

fn request(filter: &FlowFilter, sequence: u32) -> Writer {
    let mut writer = Writer::default();
    let family = if filter.ipv6 { AF_INET6 } else { AF_INET };
    writer.message(GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, (family, 0), |w| encode(filter, w));
    writer
}

/// What the kernel is to filter by. IPv6 addresses are left to [`FlowFilter::matches`]: up to Linux 6.18 at least, the
/// kernel takes equal ones for different (`ctnetlink_filter_match_tuple` has the comparison the wrong way round).
fn encode(wanted: &FlowFilter, w: &mut Writer) {
    let by_kernel = |address: Option<IpAddr>| address.filter(IpAddr::is_ipv4);
    let wanted = FlowFilter {
        destination: by_kernel(wanted.destination),
        replier: by_kernel(wanted.replier),
        ..*wanted
    };
    let flag = |given: bool, bit: u32| if given { bit } else { 0 };
    let original = filter::PROTO_NUM
        | flag(wanted.destination.is_some(), filter::IP_DST)
        | flag(wanted.destination_port.is_some(), filter::DST_PORT);
    let reply = flag(wanted.replier.is_some(), filter::IP_SRC)
        | flag(wanted.replier_port.is_some(), filter::SRC_PORT | filter::PROTO_NUM);
    w.nest(CTA_TUPLE_ORIG, |w| {
        tuple(w, wanted.protocol, (1, wanted.destination), (CTA_PROTO_DST_PORT, wanted.destination_port));
    });
    if reply != 0 {
        w.nest(CTA_TUPLE_REPLY, |w| {
            tuple(w, wanted.protocol, (0, wanted.replier), (CTA_PROTO_SRC_PORT, wanted.replier_port));
        });
    }
    // Kernels before 5.13 list all.
    if wanted.lost {
        w.attribute(CTA_STATUS, &0_u32.to_be_bytes());
        w.attribute(CTA_STATUS_MASK, &(SEEN_REPLY | DST_NAT).to_be_bytes());
    }
    w.nest(CTA_FILTER, |w| {
        w.attribute(1, &original.to_ne_bytes());
        w.attribute(2, &reply.to_ne_bytes());
    });
}

/// A tuple with at most one address and one port; `side` is 0 for the source, 1 for the destination.
fn tuple(
    w: &mut Writer,
    protocol: u8,
    (side, ip): (u16, Option<IpAddr>),
    (port_kind, port): (u16, Option<u16>),
) {
    if let Some(ip) = ip {
        w.nest(CTA_TUPLE_IP, |w| match ip {
            IpAddr::V4(ip) => w.attribute(1 + side, &ip.octets()),
            IpAddr::V6(ip) => w.attribute(3 + side, &ip.octets()),
        });
    }
    w.nest(CTA_TUPLE_PROTO, |w| {
        w.attribute(CTA_PROTO_NUM, &[protocol]);
        if let Some(port) = port {
            w.attribute(port_kind, &port.to_be_bytes());
        }
    });
}

fn flow(message: &Message<'_>) -> Option<Flow> {
    let attributes = message.attributes();
    let original = attributes.nested(CTA_TUPLE_ORIG)?;
    let reply = attributes.nested(CTA_TUPLE_REPLY)?;
    let protocol = *original.nested(CTA_TUPLE_PROTO)?.get(CTA_PROTO_NUM)?.first()?;
    let status = status(attributes)?;
    Some(Flow {
        protocol,
        source: address(original, 0)?,
        source_port: port(original, CTA_PROTO_SRC_PORT)?,
        destination: address(original, 1)?,
        destination_port: port(original, CTA_PROTO_DST_PORT)?,
        replier: address(reply, 0)?,
        replier_port: port(reply, CTA_PROTO_SRC_PORT)?,
        by_netfilter: status & DST_NAT != 0,
        answered: status & SEEN_REPLY != 0,
        closed: tcp_state(attributes).is_some_and(|state| state >= LAST_ACK),
        tuple: original.0.to_vec(),
        id: attributes.get(CTA_ID)?.to_vec(),
        zone: attributes.get(CTA_ZONE).map(<[u8]>::to_vec),
    })
}

fn detour(message: &Message<'_>) -> Option<Detour> {
    let attributes = message.attributes();
    let original = attributes.nested(CTA_TUPLE_ORIG)?;
    let reply = attributes.nested(CTA_TUPLE_REPLY)?;
    Some(Detour {
        protocol: *original.nested(CTA_TUPLE_PROTO)?.get(CTA_PROTO_NUM)?.first()?,
        destination: SocketAddr::new(address(original, 1)?, port(original, CTA_PROTO_DST_PORT)?),
        replier: SocketAddr::new(address(reply, 0)?, port(reply, CTA_PROTO_SRC_PORT)?),
    })
}

fn status(attributes: Attributes<'_>) -> Option<u32> {
    Some(u32::from_be_bytes(attributes.get(CTA_STATUS)?.try_into().ok()?))
}

fn tcp_state(attributes: Attributes<'_>) -> Option<u8> {
    let tcp = attributes.nested(CTA_PROTOINFO)?.nested(CTA_PROTOINFO_TCP)?;
    tcp.get(CTA_PROTOINFO_TCP_STATE)?.first().copied()
}

fn address(tuple: Attributes<'_>, side: u16) -> Option<IpAddr> {
    let ip = tuple.nested(CTA_TUPLE_IP)?;
    let v4 = ip.get(1 + side).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let v6 = ip.get(3 + side).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    v4.map(|octets| Ipv4Addr::from(octets).into()).or_else(|| v6.map(|octets| Ipv6Addr::from(octets).into()))
}

fn port(tuple: Attributes<'_>, kind: u16) -> Option<u16> {
    let bytes = tuple.nested(CTA_TUPLE_PROTO)?.get(kind)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
