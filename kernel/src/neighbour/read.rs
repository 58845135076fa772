//! Reading messages. What does not parse is left out; nothing here can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::types::{Forwarding, Neighbour};
use super::uapi::{AF_BRIDGE, AF_INET, AF_INET6, DELNEIGH, NDA_DST, NDA_LLADDR, NDMSG, NEWNEIGH, PERMANENT};
use crate::Mac;
use crate::netlink::{Attributes, Message};

/// A neighbour whose hardware address is known. One that went may come without it.
pub(crate) fn neighbour(message: &Message<'_>) -> Option<Neighbour> {
    let (family, link, state, attributes) = split(message)?;
    matches!(family, AF_INET | AF_INET6).then_some(())?;
    let mac = match attributes.get(NDA_LLADDR) {
        Some(bytes) => Mac(bytes.try_into().ok()?),
        None if message.kind == DELNEIGH => Mac::ZERO,
        None => return None,
    };
    let address = address(attributes.get(NDA_DST)?)?;
    Some(Neighbour { link, address, mac, permanent: state & PERMANENT != 0 })
}

/// A forwarding entry with a destination beyond this host.
pub(crate) fn forwarding(message: &Message<'_>) -> Option<Forwarding> {
    let (family, link, _, attributes) = split(message)?;
    (family == AF_BRIDGE).then_some(())?;
    let mac = Mac(attributes.get(NDA_LLADDR)?.try_into().ok()?);
    Some(Forwarding { link, mac, to: address(attributes.get(NDA_DST)?)? })
}

fn split<'a>(message: &Message<'a>) -> Option<(u8, u32, u16, Attributes<'a>)> {
    matches!(message.kind, NEWNEIGH | DELNEIGH).then_some(())?;
    let (header, rest) = message.payload.split_first_chunk::<NDMSG>()?;
    let [family, _, _, _, a, b, c, d, low, high, _, _] = *header;
    Some((family, u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([low, high]), Attributes(rest)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 28..30_u16) {
            let message = Message { kind, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let _ = (neighbour(&message), forwarding(&message));
        }
    }
}
