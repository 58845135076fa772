//! From whom to whom a packet is.

use std::net::IpAddr;

use crate::packet;

/// What matters of a packet's headers. The addresses are of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Headers {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sends.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// From which port, if the protocol has ports and they are there, which they are not in later fragments.
    pub source_port: Option<u16>,
    /// To which port; there if the other is.
    pub destination_port: Option<u16>,
}

/// What the first bytes of a packet say, from its IP header on; `None` if that is not whole.
#[must_use]
pub fn headers(bytes: &[u8]) -> Option<Headers> {
    let packet::Network { protocol, source, destination, transport } = packet::network(bytes)?;
    let ports = packet::ports(transport).filter(|_| packet::has_ports(protocol));
    let (source_port, destination_port) = ports.unzip();
    Some(Headers { protocol, source, destination, source_port, destination_port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const PORTS: [u8; 4] = [0x0f, 0xa0, 0, 80];

    fn ipv4(protocol: u8, fragment: u16, options: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[9] = protocol;
        header[12..16].copy_from_slice(&[10, 180, 0, 3]);
        header[16..20].copy_from_slice(&[172, 30, 0, 10]);
        [&header, options, &PORTS].concat()
    }

    fn ipv6(next: u8, extensions: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 40];
        (header[0], header[6], header[23], header[39]) = (0x60, next, 1, 2);
        [&header, extensions, &PORTS].concat()
    }

    fn found(bytes: &[u8]) -> Option<String> {
        let found = headers(bytes)?;
        let port = |port: Option<u16>| port.map_or("-".to_owned(), |port| port.to_string());
        let (from, to) = (port(found.source_port), port(found.destination_port));
        Some(format!("{} {} {from} {} {to}", found.protocol, found.source, found.destination))
    }

    fn expect(bytes: &[u8], expected: &str) {
        assert_eq!(found(bytes).as_deref(), Some(expected), "{bytes:?}");
    }

    #[test]
    fn ipv4_has_its_ports_behind_its_options() {
        expect(&ipv4(TCP, 0x4000, &[]), "6 10.180.0.3 4000 172.30.0.10 80");
        expect(&ipv4(UDP, 0, &[1; 8]), "17 10.180.0.3 4000 172.30.0.10 80");
        let mut too_short = ipv4(TCP, 0, &[]);
        too_short[0] = 0x44;
        expect(&too_short, "6 10.180.0.3 - 172.30.0.10 -");
    }

    #[test]
    fn ipv6_has_its_ports_behind_its_extension_headers() {
        expect(&ipv6(TCP, &[]), "6 ::1 4000 ::2 80");
        let (hop_by_hop, fragment) = ([44, 0, 0, 0, 0, 0, 0, 0], [UDP, 0, 0, 1, 0, 0, 0, 0]);
        expect(&ipv6(0, &[hop_by_hop, fragment].concat()), "17 ::1 4000 ::2 80");
        let longer = [&[TCP, 1][..], &[0; 14]].concat();
        expect(&ipv6(60, &longer), "6 ::1 4000 ::2 80");
    }

    #[test]
    fn what_has_no_ports_is_told_without() {
        expect(&ipv4(1, 0, &[]), "1 10.180.0.3 - 172.30.0.10 -");
        expect(&ipv4(TCP, 7, &[]), "6 10.180.0.3 - 172.30.0.10 -");
        expect(&ipv6(44, &[UDP, 0, 0, 8, 0, 0, 0, 0]), "17 ::1 - ::2 -");
        expect(&ipv4(TCP, 0, &[])[..23], "6 10.180.0.3 - 172.30.0.10 -");
        expect(&ipv6(43, &[TCP, 200]), "43 ::1 - ::2 -");
        assert_eq!(found(&ipv4(TCP, 0, &[])[..19]), None);
        assert_eq!(found(&ipv6(TCP, &[])[..39]), None);
    }

    #[test]
    fn extension_headers_without_end_are_given_up() {
        expect(&ipv6(0, &[0; 80]), "0 ::1 - ::2 -");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            version in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
            next in prop_oneof![Just(0_u8), Just(43), Just(44), Just(60), any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = [&[version][..], &rest].concat();
            if let Some(byte) = bytes.get_mut(6) {
                *byte = next;
            }
            if let Some(found) = headers(&bytes) {
                prop_assert_eq!(found.source.is_ipv4(), version >> 4 == 4);
                prop_assert_eq!(found.source.is_ipv4(), found.destination.is_ipv4());
                prop_assert_eq!(found.source_port.is_some(), found.destination_port.is_some());
                let header = if found.source.is_ipv4() { 20 } else { 40 };
                prop_assert!(bytes.len() >= header);
            }
        }
    }
}
