//! SCTP sockets with one association each (RFC 6458, section 4). They are used like those of TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Associations that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket to connect with.
pub(crate) fn socket(source: Option<IpAddr>, to: SocketAddr) -> io::Result<Socket> {
    let socket = new(to)?;
    // Otherwise an ICMP error is only noted, and the association is tried for over a minute more.
    match to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    // A socket that is bound to no address offers the peer all that its host has, and packets to those pass every NAT by.
    let source = source.map_or_else(|| nearest(to), Ok)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    Ok(socket)
}

/// A socket that is connected to. Reads and writes are the same as for TCP.
pub(crate) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new(address)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn new(of: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(of), Type::STREAM, Some(Protocol::SCTP)).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel has no SCTP; the virtual machine's has: cargo test --workspace --test vm -- tests-sctp",
            ),
            _ => error,
        }
    })
}

/// The source address that the kernel would choose.
fn nearest(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}
