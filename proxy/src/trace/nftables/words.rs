//! Keys, values and verdicts as `nft list` writes them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use kernel::nft::{Data, DataType, Element};

use super::table::Shape;

/// An element: `10.96.0.10 . tcp . 80 comment "default/web" : 0x00000003`.
pub(super) fn element(shape: &Shape, element: &Element) -> String {
    let mut words = match &element.key_end {
        Some(end) => range(shape.key.as_deref(), &element.key, end),
        None => fields(shape.key.as_deref(), &element.key),
    };
    let comment = element.comment.iter().map(|comment| format!(" comment \"{comment}\""));
    words.extend(comment);
    match &element.data {
        Data::None => words,
        Data::Value(value) => format!("{words} : {}", fields(shape.value.as_deref(), value)),
        Data::Verdict(decision) => format!("{words} : {decision}"),
    }
}

/// Where a set or map is met: `map service-ips`.
pub(super) fn place(shape: &Shape, name: &str) -> String {
    format!("{} {name}", if shape.is_map { "map" } else { "set" })
}

/// Bytes as their fields, or as they are if those are not known.
pub(super) fn fields(types: Option<&[DataType]>, bytes: &[u8]) -> String {
    let Some(types) = types else { return hexadecimal(bytes) };
    let words: Vec<_> = split(types, bytes).map(|(kind, bytes)| field(kind, bytes)).collect();
    words.join(" . ")
}

fn range(types: Option<&[DataType]>, first: &[u8], last: &[u8]) -> String {
    let Some(types) = types else { return format!("{}-{}", hexadecimal(first), hexadecimal(last)) };
    let both = split(types, first).zip(split(types, last));
    let words: Vec<_> = both
        .map(|((kind, first), (_, last))| {
            let words = field(kind, first);
            match prefix(first, last) {
                _ if first == last => words,
                Some(length) => format!("{words}/{length}"),
                None => format!("{words}-{}", field(kind, last)),
            }
        })
        .collect();
    words.join(" . ")
}

/// The length of the prefix that a range of addresses is, if it is one.
fn prefix(first: &[u8], last: &[u8]) -> Option<usize> {
    let bits = |bytes: &[u8]| -> Vec<bool> {
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect()
    };
    let (first, last) = (bits(first), bits(last));
    let length = first.iter().zip(&last).take_while(|(first, last)| first == last).count();
    let is_whole = first[length..].iter().all(|bit| !bit) && last[length..].iter().all(|bit| *bit);
    is_whole.then_some(length)
}

fn split<'a>(types: &[DataType], bytes: &'a [u8]) -> impl Iterator<Item = (DataType, &'a [u8])> {
    let mut rest = bytes;
    types.iter().map(move |kind| {
        let (own, after) = rest.split_at(kind.padded().min(rest.len()));
        rest = after;
        (*kind, &own[..kind.width().min(own.len())])
    })
}

fn field(kind: DataType, bytes: &[u8]) -> String {
    let words = match kind {
        DataType::Ipv4Addr => {
            <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).to_string())
        }
        DataType::Ipv6Addr => {
            <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).to_string())
        }
        DataType::InetProto => bytes.first().map(|number| protocol(*number)),
        DataType::InetService => bytes.try_into().ok().map(|port| u16::from_be_bytes(port).to_string()),
        DataType::Mark => bytes.try_into().ok().map(|mark| format!("{:#010x}", u32::from_ne_bytes(mark))),
    };
    words.unwrap_or_else(|| hexadecimal(bytes))
}

/// As `nft` names those that Services have.
fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut words, byte| {
        // Writing to a string cannot fail.
        let _ = write!(words, "{byte:02x}");
        words
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(key: &[DataType], value: Option<&[DataType]>) -> Shape {
        Shape {
            key: Some(key.to_vec()),
            value: value.map(<[_]>::to_vec),
            is_map: value.is_some(),
            ..Shape::default()
        }
    }

    const FRONTEND: [DataType; 3] = [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService];

    #[test]
    fn elements_read_as_nft_lists_them() {
        let map = shape(&FRONTEND, Some(&[DataType::Mark]));
        let led = Element {
            key: [10, 96, 0, 10, 17, 0, 0, 0, 0, 53, 0, 0][..].into(),
            data: Data::Value(3_u32.to_ne_bytes()[..].into()),
            comment: Some("kube-system/dns".to_owned()),
            ..Element::default()
        };
        assert_eq!(element(&map, &led), "10.96.0.10 . udp . 53 comment \"kube-system/dns\" : 0x00000003");
        let endpoints = shape(&[DataType::Mark], Some(&[DataType::Ipv6Addr, DataType::InetService]));
        let mut value = vec![0; 20];
        (value[0], value[15], value[17]) = (0xfd, 1, 80);
        let slot = Element {
            key: 1_u32.to_ne_bytes()[..].into(),
            data: Data::Value(value.into()),
            ..Element::default()
        };
        assert_eq!(element(&endpoints, &slot), "0x00000001 : fd00::1 . 80");
    }

    #[test]
    fn ranges_read_as_prefixes_where_they_are_some() {
        let set = shape(&[DataType::InetService, DataType::Ipv4Addr], None);
        let range = |first: [u8; 4], last: [u8; 4]| {
            let key = |address: [u8; 4]| [&[0, 80, 0, 0], &address[..]].concat().into();
            element(&set, &Element { key: key(first), key_end: Some(key(last)), ..Element::default() })
        };
        assert_eq!(range([10, 0, 0, 0], [10, 0, 0, 255]), "80 . 10.0.0.0/24");
        assert_eq!(range([10, 0, 0, 1], [10, 0, 0, 4]), "80 . 10.0.0.1-10.0.0.4");
        assert_eq!(range([10, 0, 0, 1], [10, 0, 0, 1]), "80 . 10.0.0.1");
    }

    proptest! {
        #[test]
        fn bytes_of_any_length_have_words(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert!(fields(Some(&FRONTEND), &bytes).matches(" . ").count() == 2);
            prop_assert!(fields(None, &bytes).len() == 2 + 2 * bytes.len());
        }
    }
}
