//! Reading messages. What does not parse is left out; nothing here can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::types::{Entry, Header, Kind};
use super::uapi::{AF_INET6, attr, data};
use crate::netlink::{Attributes, Message};

/// What a set is, out of the first message of its listing.
pub(super) fn header(message: &Message<'_>) -> Option<Header> {
    let attributes = message.attributes();
    let about = attributes.nested(attr::DATA).unwrap_or(Attributes(&[]));
    Some(Header {
        name: attributes.string(attr::SETNAME)?.to_owned(),
        kind: Kind::from_name(attributes.string(attr::TYPENAME)?),
        ipv6: byte(attributes, attr::FAMILY)? == AF_INET6,
        entries: about.be32(data::ELEMENTS).unwrap_or_default(),
        references: about.be32(data::REFERENCES).unwrap_or_default(),
        max_entries: about.be32(data::MAXELEM),
    })
}

/// The entries in a message of a set's listing. Only the first such message says which kind the set is of: what there
/// is of an entry tells it as well.
pub(super) fn entries(message: &Message<'_>, found: &mut Vec<Entry>) {
    let listed = message.attributes().nested(attr::ADT).into_iter().flatten();
    let payloads = listed.filter(|(kind, _)| *kind == attr::DATA).map(|(_, payload)| Attributes(payload));
    found.extend(payloads.filter_map(entry));
}

/// The oldest and the newest version or revision, where the kernel was asked for them.
pub(super) fn range(message: &Message<'_>, (oldest, newest): (u16, u16)) -> Option<(u8, u8)> {
    let newest = byte(message.attributes(), newest)?;
    // Linux before 4.20 knew one version, and named no oldest.
    Some((byte(message.attributes(), oldest).unwrap_or(newest), newest))
}

fn entry(of: Attributes<'_>) -> Option<Entry> {
    let port = || Some(u16::from_be_bytes(of.get(data::PORT)?.try_into().ok()?));
    let Some(address) = ip(of, data::IP) else { return port().map(Entry::Port) };
    let Some(port) = port() else {
        let net = |prefix| Entry::Net { net: address, prefix };
        return Some(byte(of, data::CIDR).map_or(Entry::Ip(address), net));
    };
    let protocol = byte(of, data::PROTO)?;
    Some(match (ip(of, data::IP2), byte(of, data::CIDR2)) {
        (None, _) => Entry::IpPort { address, protocol, port },
        (Some(other), None) => Entry::IpPortIp { address, protocol, port, other },
        (Some(net), Some(prefix)) => Entry::IpPortNet { address, protocol, port, net, prefix },
    })
}

fn ip(of: Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let address = of.nested(kind)?;
    let v4 = address.get(data::IPADDR_IPV4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let v6 = address.get(data::IPADDR_IPV6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    v4.map(|octets| Ipv4Addr::from(octets).into()).or_else(|| v6.map(|octets| Ipv6Addr::from(octets).into()))
}

fn byte(of: Attributes<'_>, kind: u16) -> Option<u8> {
    of.get(kind)?.first().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::types::Edit;
    use super::super::write;
    use super::{entries as entries_of, *};
    use crate::netlink::{Writer, messages};

    fn any_entry() -> impl Strategy<Value = Entry> {
        let port = (any::<IpAddr>(), any::<u8>(), any::<u16>());
        prop_oneof![
            any::<IpAddr>().prop_map(Entry::Ip),
            any::<u16>().prop_map(Entry::Port),
            (any::<IpAddr>(), any::<u8>()).prop_map(|(net, prefix)| Entry::Net { net, prefix }),
            port.clone().prop_map(|(address, protocol, port)| Entry::IpPort { address, protocol, port }),
            (port.clone(), any::<IpAddr>()).prop_map(|((address, protocol, port), other)| {
                Entry::IpPortIp { address, protocol, port, other }
            }),
            (port, any::<IpAddr>(), any::<u8>()).prop_map(|((address, protocol, port), net, prefix)| {
                Entry::IpPortNet { address, protocol, port, net, prefix }
            }),
        ]
    }

    #[test]
    fn an_entry_is_shown_as_ipset_writes_it() {
        let address = "10.0.0.1".parse().unwrap();
        let net = |net: &str, prefix| {
            let net = net.parse().unwrap();
            Entry::IpPortNet { address, protocol: 6, port: 80, net, prefix }.to_string()
        };
        assert_eq!(net("10.0.0.0", 8), "10.0.0.1,tcp:80,10.0.0.0/8");
        assert_eq!(net("10.2.0.1", 32), "10.0.0.1,tcp:80,10.2.0.1");
        assert_eq!(net("fd00::1", 128), "10.0.0.1,tcp:80,fd00::1");
        let edit = Edit {
            set: "KUBE-X".into(),
            add: false,
            entry: Entry::IpPortIp { address, protocol: 132, port: 9, other: address },
        };
        assert_eq!(edit.to_string(), "remove 10.0.0.1,sctp:9,10.0.0.1 from set KUBE-X");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in proptest::collection::vec(any_entry(), 0..20)) {
            let mut writer = Writer::default();
            writer.message(0, 0, 1, (2, 0), |w| {
                w.nest(attr::ADT, |w| {
                    for entry in &entries {
                        w.nest(attr::DATA, |w| write::entry(w, entry));
                    }
                });
            });
            let mut found = Vec::new();
            messages(writer.bytes()).for_each(|message| entries_of(&message, &mut found));
            prop_assert_eq!(found, entries);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let mut found = Vec::new();
            entries_of(&message, &mut found);
            let _ = (header(&message), range(&message, (10, 1)), entry(Attributes(&bytes)));
        }
    }
}
