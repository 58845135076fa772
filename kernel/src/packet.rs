//! What the headers of a packet say. Bounds are checked everywhere: nothing here can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Extension headers that are passed over at most.
const MOST_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_LITE: u8 = 136;
const SCTP: u8 = 132;

/// What the IP header says.
pub(crate) struct Network<'a> {
    /// Of the transport header; of an extension header if what follows that is not there.
    pub(crate) protocol: u8,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// What begins with the transport header; nothing in fragments but the first.
    pub(crate) transport: &'a [u8],
}

/// The IP header at the beginning of some bytes, if there is a whole one.
pub(crate) fn network(bytes: &[u8]) -> Option<Network<'_>> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

/// The ports at the beginning of a transport header, source first.
pub(crate) fn ports(transport: &[u8]) -> Option<(u16, u16)> {
    Some((be16(transport, 0)?, be16(transport, 2)?))
}

/// Whether packets of a protocol have ports.
pub(crate) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | UDP_LITE | SCTP)
}

fn ipv4(bytes: &[u8]) -> Option<Network<'_>> {
    const OFFSET: u16 = 0x1fff;
    let length = usize::from(bytes.first()? & 0xf) * 4;
    let is_first = be16(bytes, 6)? & OFFSET == 0;
    Some(Network {
        protocol: *bytes.get(9)?,
        source: Ipv4Addr::from(octets::<4>(bytes, 12)?).into(),
        destination: Ipv4Addr::from(octets::<4>(bytes, 16)?).into(),
        // Options may be cut off.
        transport: if is_first && length >= 20 { bytes.get(length..).unwrap_or_default() } else { &[] },
    })
}

fn ipv6(bytes: &[u8]) -> Option<Network<'_>> {
    let (protocol, transport) = behind_extensions(*bytes.get(6)?, bytes.get(40..)?);
    Some(Network {
        protocol,
        source: Ipv6Addr::from(octets::<16>(bytes, 8)?).into(),
        destination: Ipv6Addr::from(octets::<16>(bytes, 24)?).into(),
        transport,
    })
}

fn behind_extensions(first: u8, bytes: &[u8]) -> (u8, &[u8]) {
    let (mut kind, mut rest) = (first, bytes);
    for _ in 0..MOST_EXTENSIONS {
        let Some(length) = extension(kind, rest) else { return (kind, rest) };
        let (Some(next), Some(after)) = (rest.first(), rest.get(length..)) else { return (kind, &[]) };
        if kind == FRAGMENT && be16(rest, 2).is_none_or(|offset| offset >> 3 != 0) {
            return (*next, &[]);
        }
        (kind, rest) = (*next, after);
    }
    (kind, &[])
}

/// How long an extension header is; `None` for what is none.
fn extension(kind: u8, bytes: &[u8]) -> Option<usize> {
    match kind {
        FRAGMENT => Some(8),
        // Eight bytes more than it says, in units of eight. One that is cut off ends where nothing is.
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
            Some(bytes.get(1).map_or(usize::MAX, |units| 8 + usize::from(*units) * 8))
        }
        _ => None,
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    octets::<2>(bytes, at).map(u16::from_be_bytes)
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
