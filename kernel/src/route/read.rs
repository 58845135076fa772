//! Reading messages. What does not parse is left out; nothing here can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::entry::{Route, Scope};
use super::types::Way;
use super::uapi::{
    AF_INET, AF_INET6, BLACKHOLE, CLONED, DELROUTE, LOCAL, NEWROUTE, ONLINK, PROHIBIT, RTA_DST, RTA_GATEWAY,
    RTA_METRICS, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTAX_MTU, RTMSG, SCOPE_LINK,
    UNICAST, UNREACHABLE, V6_METRIC,
};
use crate::netlink::{Attributes, Message};

/// A route that the kernel would take.
pub(super) fn way(message: &Message<'_>) -> Option<Way> {
    let (header, rest) = message.payload.split_first_chunk::<RTMSG>()?;
    let [_, _, _, _, _, _, _, kind, ..] = *header;
    let attributes = Attributes(rest);
    let link = attributes.get(RTA_OIF)?.first_chunk()?;
    (message.kind == NEWROUTE).then(|| Way {
        local: kind == LOCAL,
        gateway: attributes.get(RTA_GATEWAY).or_else(|| attributes.get(RTA_VIA)).is_some(),
        link: u32::from_ne_bytes(*link),
    })
}

/// A route with one way to go, or none: that is there, or that went.
pub(crate) fn route(message: &Message<'_>) -> Option<Route> {
    let (header, rest) = message.payload.split_first_chunk::<RTMSG>()?;
    let [family, length, _, _, table, protocol, scope, kind, flags @ ..] = *header;
    let (attributes, flags) = (Attributes(rest), u32::from_ne_bytes(flags));
    // However it tells senders so.
    let leads_nowhere = matches!(kind, BLACKHOLE | UNREACHABLE | PROHIBIT);
    let is_one = matches!(message.kind, NEWROUTE | DELROUTE)
        && (kind == UNICAST || leads_nowhere)
        && flags & CLONED == 0;
    let is_v4 = match family {
        AF_INET => true,
        AF_INET6 => false,
        _ => return None,
    };
    let any: IpAddr = if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let destination = match attributes.get(RTA_DST) {
        Some(bytes) => address(bytes)?,
        None => any,
    };
    let number = |kind| host32(attributes, kind);
    let via = attributes.get(RTA_VIA).and_then(|via| address(via.get(2..)?));
    let link = if leads_nowhere { 0 } else { number(RTA_OIF)? };
    is_one.then_some(())?;
    Some(Route {
        destination: IpNet::new(destination, length).ok().filter(|_| destination.is_ipv4() == is_v4)?,
        gateway: attributes.get(RTA_GATEWAY).and_then(address).or(via),
        onlink: flags & ONLINK != 0,
        link,
        source: attributes.get(RTA_PREFSRC).and_then(address),
        table: number(RTA_TABLE).unwrap_or(u32::from(table)),
        protocol,
        scope: if is_v4 && scope == SCOPE_LINK { Scope::Link } else { Scope::Universe },
        metric: number(RTA_PRIORITY).filter(|metric| is_v4 || *metric != V6_METRIC),
        mtu: attributes.nested(RTA_METRICS).and_then(|metrics| host32(metrics, RTAX_MTU)),
    })
}

fn host32(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(*attributes.get(kind)?.first_chunk()?))
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
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: NEWROUTE, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let _ = (way(&message), route(&message));
        }
    }
}
