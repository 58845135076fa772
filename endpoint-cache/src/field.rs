//! Fields that several kinds of object have: read, checked, and complained about.

use std::net::IpAddr;

use crate::Protocol;
use crate::address::{parse_address, unusable};
use crate::problem::Findings;

/// A port number from 1 to 65535.
pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// A port where 0 means none.
pub(crate) fn optional_port(number: i32, field: String, findings: &mut Findings) -> Option<u16> {
    let port = port_number(number);
    if port.is_none() && number != 0 {
        findings.add(field, format!("{number} is not within 1 to 65535: none is used."));
    }
    port
}

/// `TCP` where none is given; `None` for what is not known.
pub(crate) fn read_protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// An address that traffic can be sent to.
pub(crate) fn read_usable(text: &str, field: &str, findings: &mut Findings) -> Option<IpAddr> {
    let Some(address) = parse_address(text) else {
        findings.add(field, format!("{} is no IP address: left out.", excerpt(text)));
        return None;
    };
    if let Some(why) = unusable(address) {
        findings.add(field, format!("{address} {why}: left out."));
        return None;
    }
    Some(address)
}

/// Text from outside, short enough for a sentence.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 64;
    let mut excerpt: String = text.chars().take(MOST).collect();
    if excerpt.len() < text.len() {
        excerpt.push_str("...");
    }
    format!("{excerpt:?}")
}
