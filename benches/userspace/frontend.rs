//! What is behind the proxies, and on which ports they lead there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use testbed::Protocol;

/// A port of the proxy, and the same port of its endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frontend {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: u8,
}

/// Answers what it is sent.
pub(crate) const ECHO: Frontend = tcp("echo", 7001, 1);
/// Answers once, and closes.
pub(crate) const ONCE: Frontend = tcp("once", 7002, 1);
/// Takes all it is sent, and answers each [`PORTION`] with a byte.
pub(crate) const SINK: Frontend = tcp("sink", 7003, 1);
/// Sends as much as it can.
pub(crate) const SOURCE: Frontend = tcp("source", 7004, 1);
/// Answers what it is sent.
pub(crate) const DATAGRAMS: Frontend =
    Frontend { name: "datagrams", port: 7005, protocol: Protocol::Udp, endpoints: 1 };
/// Each says which of the endpoints it is, and closes.
pub(crate) const FAN_OUTS: [Frontend; 4] =
    [tcp("two", 7102, 2), tcp("five", 7105, 5), tcp("fifty", 7150, 50), tcp("two-hundred", 7300, 200)];

pub(crate) const PORTION: usize = 1 << 20;

const fn tcp(name: &'static str, port: u16, endpoints: u8) -> Frontend {
    Frontend { name, port, protocol: Protocol::Tcp, endpoints }
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Frontend> {
    [ECHO, ONCE, SINK, SOURCE, DATAGRAMS].into_iter().chain(FAN_OUTS)
}

impl Frontend {
    /// Where the traffic goes to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let port = self.port;
        (1..=self.endpoints).map(move |number| SocketAddr::new(endpoint(number), port))
    }
}

/// The address of an endpoint, counted from 1.
pub(crate) fn endpoint(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 181, 0, number).into()
}
