//! Elements in the words of `nft`. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use endpoint_cache::{Family, Protocol};
use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use kernel::nft::{Data, DataType, Element, MapTo};

use super::layout::{SetName, table};

/// `element of map ip pointsman service-ips: 10.96.0.1 . tcp . 443 : 0x00000003`
pub(crate) fn element(set: SetName, family: Family, element: &Element) -> String {
    let definition = set.definition(family);
    let (kind, data) = match &definition.data {
        MapTo::Nothing => ("set", String::new()),
        MapTo::Verdict => ("map", format!(" : {}", data(&[], &element.data))),
        MapTo::Value(fields) => ("map", format!(" : {}", data(fields, &element.data))),
    };
    let key = concatenation(&definition.key, &element.key, element.key_end.as_deref());
    format!("element of {kind} {} {}: {key}{data}", table(family), set.as_str())
}

fn data(fields: &[DataType], data: &Data) -> String {
    match data {
        Data::None => String::new(),
        Data::Value(value) => concatenation(fields, value, None),
        Data::Verdict(verdict) => verdict.to_string(),
    }
}

/// The fields of a key or value, or the ranges of a key that has an end.
fn concatenation(fields: &[DataType], bytes: &[u8], end: Option<&[u8]>) -> String {
    let mut at = 0;
    let texts = fields.iter().map(|of| {
        let place = at..at + of.width();
        at += of.padded();
        let first = bytes.get(place.clone()).map_or_else(|| "?".to_owned(), |bytes| field(*of, bytes));
        let last = end.and_then(|end| end.get(place)).map(|bytes| field(*of, bytes));
        match last.filter(|last| *last != first) {
            Some(last) => range(&first, &last),
            None => first,
        }
    });
    texts.collect::<Vec<_>>().join(" . ")
}

/// A prefix where it is one.
fn range(first: &str, last: &str) -> String {
    let subnets = match (first.parse(), last.parse()) {
        (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        _ => return format!("{first}-{last}"),
    };
    let some: Vec<IpNet> = subnets.take(2).collect();
    match some.as_slice() {
        [one] => one.to_string(),
        _ => format!("{first}-{last}"),
    }
}

/// The bytes are as many as the type has.
fn field(of: DataType, bytes: &[u8]) -> String {
    let text = match of {
        DataType::Ipv4Addr => bytes.try_into().ok().map(|octets: [u8; 4]| Ipv4Addr::from(octets).to_string()),
        DataType::Ipv6Addr => {
            bytes.try_into().ok().map(|octets: [u8; 16]| Ipv6Addr::from(octets).to_string())
        }
        DataType::InetProto => bytes.first().map(|number| protocol(*number)),
        DataType::InetService => bytes.try_into().ok().map(|port| u16::from_be_bytes(port).to_string()),
        DataType::Mark => bytes.try_into().ok().map(|mark| format!("{:#010x}", u32::from_ne_bytes(mark))),
    };
    text.unwrap_or_else(|| "?".to_owned())
}

fn protocol(number: u8) -> String {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter();
    let known = known.into_iter().find(|protocol| protocol.number() == number);
    known.map_or_else(|| number.to_string(), |protocol| protocol.to_string())
}

#[cfg(test)]
mod tests {
    use kernel::nft::Bytes;

    use super::super::bytes::Key;
    use super::super::numbers;
    use super::*;

    fn frontend(ip: [u8; 4]) -> Key {
        Key::default().address(ip.into()).protocol(Protocol::Tcp).port(443)
    }

    fn of(set: SetName, key: Bytes, data: Data) -> String {
        element(set, Family::V4, &Element { key, data, ..Element::default() })
    }

    #[test]
    fn elements_read_as_nft_prints_them() {
        let lead = of(SetName::ServiceIps, frontend([10, 96, 0, 1]).bytes(), numbers::data(3));
        assert_eq!(lead, "element of map ip pointsman service-ips: 10.96.0.1 . tcp . 443 : 0x00000003");
        let pod = Data::Value(Key::default().address([10, 180, 0, 1].into()).port(8080).bytes());
        assert_eq!(
            of(SetName::Endpoints, frontend([10, 96, 0, 1]).slot(1).bytes(), pod),
            "element of map ip pointsman endpoints: 10.96.0.1 . tcp . 443 . 0x00000001 : 10.180.0.1 . 8080"
        );
        let pick = Data::Verdict(kernel::nft::Verdict::Goto("pick-3".to_owned()));
        let number = Key::default().number(3).bytes();
        assert_eq!(
            of(SetName::Picks, number, pick),
            "element of map ip pointsman picks: 0x00000003 : goto pick-3"
        );
    }

    #[test]
    fn ranges_are_prefixes_where_they_can_be() {
        let from = |ip: [u8; 4]| frontend([192, 0, 2, 9]).address(ip.into()).bytes();
        let sources = |first, last| {
            let element = Element { key: from(first), key_end: Some(from(last)), ..Element::default() };
            super::element(SetName::FirewallSources, Family::V4, &element)
        };
        let text = "element of set ip pointsman firewall-sources: 192.0.2.9 . tcp . 443 . ";
        assert_eq!(sources([10, 0, 0, 0], [10, 255, 255, 255]), format!("{text}10.0.0.0/8"));
        assert_eq!(sources([10, 0, 0, 1], [10, 0, 0, 2]), format!("{text}10.0.0.1-10.0.0.2"));
    }

    #[test]
    fn a_value_that_is_too_short_is_no_reason_to_panic() {
        assert_eq!(
            of(SetName::ClusterIps, Bytes::from_slice(&[10]), Data::None),
            "element of set ip pointsman cluster-ips: ?"
        );
    }
}
