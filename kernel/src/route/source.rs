//! Which of its addresses this host speaks from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Of no matter: nothing is sent. 9 is what `discard` had.
const ANY_PORT: u16 = 9;

/// The address that this host takes as its source when it speaks to another; `None` where it cannot. Nothing is sent.
#[must_use]
pub fn source_towards(to: IpAddr) -> Option<IpAddr> {
    let unspecified: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ask = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind(SocketAddr::new(unspecified, 0))?;
        socket.connect(SocketAddr::new(to, ANY_PORT))?;
        Ok(socket.local_addr()?.ip())
    };
    ask().ok()
}
