//! Reading addresses and ranges as Kubernetes does, and telling which can carry traffic.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Reads an address. IPv4 octets may have leading zeros (`010.1.2.3` is `10.1.2.3`), since Kubernetes has always stored
/// such addresses; an IPv4 address mapped into IPv6 is that IPv4 address.
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let address = if text.contains(':') { text.parse().ok()? } else { IpAddr::V4(parse_v4(text)?) };
    Some(address.to_canonical())
}

/// Reads a range, with the same tolerance and with spaces around it; bits below the prefix are cleared.
#[must_use]
pub fn parse_range(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.trim().split_once('/')?;
    let address = if address.contains(':') { address.parse().ok()? } else { IpAddr::V4(parse_v4(address)?) };
    let prefix = if is_decimal(prefix) { prefix.parse().ok()? } else { return None };
    IpNet::new(address, prefix).ok().map(|range| range.trunc())
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        *octet = if is_decimal(part) { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then(|| octets.into())
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why no traffic can be sent to an address, if so: the ones that API validation refuses as well.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("is the unspecified address")
    } else if address.is_loopback() {
        Some("is a loopback address")
    } else if link_local {
        Some("is a link-local address")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else {
        None
    }
}

/// The same addresses in the fewest ranges: disjoint and sorted.
pub(crate) fn disjoint(ranges: &Vec<IpNet>) -> Vec<IpNet> {
    let mut ranges = IpNet::aggregate(ranges);
    ranges.sort_unstable();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(parse_address("010.001.000.1"), parse_address("10.1.0.1"));
        assert_eq!(parse_range(" 010.0.0.7/08 "), parse_range("10.0.0.0/8"));
        assert_eq!(parse_address("10.1.0.1"), Some(Ipv4Addr::new(10, 1, 0, 1).into()));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(parse_address("::ffff:10.0.0.1"), parse_address("10.0.0.1"));
        assert!(matches!(parse_address("fd00::1"), Some(IpAddr::V6(_))));
    }

    #[test]
    fn what_is_no_address() {
        for text in
            ["", "10.0.0", "10.0.0.1.2", "10.0.0.256", "10.0.0.+1", " 10.0.0.1", "fe80::1%eth0", "host"]
        {
            assert_eq!(parse_address(text), None, "{text:?}");
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "fd00::/129"] {
            assert_eq!(parse_range(text), None, "{text:?}");
        }
        assert_eq!(parse_address(&"1".repeat(1 << 20)), None);
    }

    #[test]
    fn addresses_without_traffic() {
        for text in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "::", "::1", "fe80::1", "ff02::1"] {
            assert!(parse_address(text).and_then(unusable).is_some(), "{text}");
        }
        for text in ["10.0.0.1", "192.0.2.1", "fd00::1", "2001:db8::1"] {
            assert_eq!(parse_address(text).and_then(unusable), None, "{text}");
        }
    }
}
