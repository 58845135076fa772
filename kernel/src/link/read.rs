//! Reading messages. What does not parse is left out; nothing here can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::types::{Address, Link, Port};
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, FORWARDING, IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, IFINFOMSG, IFLA_ADDRESS,
    IFLA_BRPORT_MODE, IFLA_BRPORT_STATE, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_OPERSTATE, OPER_UP, PROMISC,
    SCOPE_LINK, UP,
};
use crate::Mac;
use crate::netlink::{Attributes, Message};

/// A device. Messages in a bridge's name (`AF_BRIDGE`) are about a device's place in it, and are none.
pub(crate) fn link(message: &Message<'_>) -> Option<Link> {
    let (header, attributes) = split::<IFINFOMSG>(message)?;
    let [family, _, _, _, index @ .., _, _, _, _, _, _, _, _] = *header;
    let flags = u32::from_ne_bytes(*header[8..].first_chunk()?);
    (family == AF_UNSPEC).then_some(())?;
    let info = attributes.nested(IFLA_LINKINFO);
    let number = |kind| Some(u32::from_ne_bytes(*attributes.get(kind)?.first_chunk()?));
    let state = attributes.get(IFLA_OPERSTATE).and_then(|state| state.first());
    Some(Link {
        index: u32::from_ne_bytes(index),
        name: attributes.string(IFLA_IFNAME)?.to_owned(),
        kind: info.and_then(|info| info.string(IFLA_INFO_KIND)).map(str::to_owned),
        up: flags & UP != 0,
        operating: state == Some(&OPER_UP),
        mtu: number(IFLA_MTU).unwrap_or_default(),
        mac: attributes.get(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac),
        master: number(IFLA_MASTER).filter(|index| *index != 0),
        peer: number(IFLA_LINK).filter(|index| *index != 0),
        alias: attributes.string(IFLA_IFALIAS).filter(|alias| !alias.is_empty()).map(str::to_owned),
        promiscuous: flags & PROMISC != 0,
        port: info.and_then(port),
    })
}

fn port(info: Attributes<'_>) -> Option<Port> {
    (info.string(IFLA_INFO_SLAVE_KIND)? == "bridge").then_some(())?;
    let data = info.nested(IFLA_INFO_SLAVE_DATA)?;
    let byte = |kind| data.get(kind).and_then(|bytes| bytes.first()).copied();
    Some(Port {
        forwarding: byte(IFLA_BRPORT_STATE)? == FORWARDING,
        hairpin: byte(IFLA_BRPORT_MODE).is_some_and(|mode| mode != 0),
    })
}

/// An address. Of two ends of a link, ours.
pub(crate) fn address(message: &Message<'_>) -> Option<Address> {
    let (header, attributes) = split::<IFADDRMSG>(message)?;
    let [family, prefix, _, scope, index @ ..] = *header;
    let bytes = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    let address: IpAddr = match family {
        AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    let link = u32::from_ne_bytes(index);
    Some(Address { link, address, prefix, link_local_scope: scope == SCOPE_LINK })
}

/// The header of a message, which is of a fixed size, and its attributes.
fn split<'a, const HEADER: usize>(message: &Message<'a>) -> Option<(&'a [u8; HEADER], Attributes<'a>)> {
    let (header, rest) = message.payload.split_first_chunk()?;
    Some((header, Attributes(rest)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let _ = (link(&message), address(&message));
        }
    }
}
