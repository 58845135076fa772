//! The header by which an endpoint learns who its client is: PROXY protocol, version 2.

use std::io;
use std::net::SocketAddr;

use ppp::v2::{Builder, Command, Protocol, Version};

/// The header of a TCP connection. Both addresses are of one family.
pub(super) fn header(client: SocketAddr, destination: SocketAddr) -> io::Result<Vec<u8>> {
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (client, destination)).build()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};

    use super::*;

    fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = || any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from);
        let v6 = || any::<(Ipv6Addr, u16)>().prop_map(SocketAddr::from);
        prop_oneof![(v4(), v4()), (v6(), v6())]
    }

    proptest! {
        #[test]
        fn another_implementation_reads_what_was_meant((client, destination) in addresses(), rest: Vec<u8>) {
            let mut bytes = header(client, destination).unwrap();
            let length = bytes.len();
            bytes.extend(rest);
            let (read, used) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
            prop_assert_eq!(used, length);
            prop_assert_eq!(read.proxied_address(), Some(&ProxiedAddress::stream(client, destination)));
        }
    }
}
