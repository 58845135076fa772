//! Where clients of virtual servers with persistence are sent to: the templates in the list of connections.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};

use super::types::{Frontend, Target};
use crate::Error;

/// Where the kernel lists them.
const FILE: &str = "/proc/net/ip_vs_conn";

/// How much of the list is read, in bytes: half a million connections.
const MOST: u64 = 64 << 20;

/// Where a virtual server at an address sends a client that it remembers. The client is the first address of its network
/// where [`Persistence::prefix`](super::Persistence::prefix) says that networks count as one.
///
/// # Errors
/// When connections cannot be listed.
pub fn remembered(frontend: Frontend, client: IpAddr) -> Result<Option<Target>, Error> {
    let failed = |cause: io::Error| Error::io(format!("read {FILE}"), cause);
    let file = match File::open(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    find(BufReader::new(file.take(MOST)), frontend, client).map_err(failed)
}

fn find(listing: impl BufRead, frontend: Frontend, client: IpAddr) -> io::Result<Option<Target>> {
    for line in listing.lines() {
        let found = template(&line?).filter(|(of, from, _)| (*of, *from) == (frontend, client));
        if let Some((.., target)) = found {
            return Ok(Some(target));
        }
    }
    Ok(None)
}

/// Reads `TCP 0A000101 0000 0A60000A 0050 0A000102 1F90 NONE  600`: a template is a connection from port 0.
fn template(line: &str) -> Option<(Frontend, IpAddr, Target)> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => libc::IPPROTO_TCP,
        "UDP" => libc::IPPROTO_UDP,
        "SCTP" => libc::IPPROTO_SCTP,
        _ => return None,
    };
    let mut place = || Some((address(words.next()?)?, u16::from_str_radix(words.next()?, 16).ok()?));
    let ((client, client_port), (address, port), (endpoint, endpoint_port)) = (place()?, place()?, place()?);
    let frontend = Frontend::Address { address, protocol: u8::try_from(protocol).ok()?, port };
    let target = Target { address: endpoint, port: endpoint_port };
    (client_port == 0).then_some((frontend, client, target))
}

/// Reads an address of IPv6, or one of IPv4 as eight digits.
fn address(text: &str) -> Option<IpAddr> {
    match text.contains(':') {
        true => text.parse().ok(),
        false => u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000101 9C40 0A60000A 0050 0A000109 1F90 ESTABLISHED     899
TCP 0A000101 0000 0A60000A 0050 0A000102 1F90 NONE            600
UDP fd00:0000:0000:0000:0000:0000:0000:0001 0000 fd00:0000:0000:0000:0000:0000:0000:000a 0035 \
fd00:0000:0000:0000:0000:0000:0000:0002 1F90 NONE            600
TCP 0A0001
";

    #[test]
    fn templates_are_found_and_connections_are_not() {
        let find = |client: &str, address: &str, protocol, port| {
            let frontend = Frontend::Address { address: address.parse().unwrap(), protocol, port };
            let found = find(LISTING.as_bytes(), frontend, client.parse().unwrap()).unwrap();
            found.map(|target| target.to_string())
        };
        assert_eq!(find("10.0.1.1", "10.96.0.10", 6, 80).as_deref(), Some("10.0.1.2:8080"));
        assert_eq!(find("fd00::1", "fd00::a", 17, 53).as_deref(), Some("[fd00::2]:8080"));
        assert_eq!(find("10.0.1.1", "10.96.0.10", 17, 80), None);
        assert_eq!(find("10.0.1.2", "10.96.0.10", 6, 80), None);
    }
}
