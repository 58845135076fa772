//! Sockets for carrying other people's traffic: readiness ([`Poller`]), streams ([`Listener`], [`Stream`]), pipes that
//! move bytes between streams without copying them ([`Pipe`]), and datagrams in batches ([`Datagrams`], [`Batch`]).
//!
//! Everything is non-blocking: what would wait returns [`WouldBlock`](std::io::ErrorKind::WouldBlock).

mod datagram;
mod limit;
mod pipe;
mod poll;
mod stream;
#[cfg(test)]
mod tests;

pub use datagram::{Batch, Datagrams};
pub use limit::raise_descriptor_limit;
pub use pipe::Pipe;
pub use poll::{Event, Events, Interest, Poller, Waker};
pub use stream::{Listener, Stream};

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockAddr, Socket, Type};

/// How an outgoing socket presents itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address to bear, which need not be the node's own (`IP_TRANSPARENT`, takes `CAP_NET_ADMIN`). With a port
    /// that is taken already, any other is used.
    pub address: Option<SocketAddr>,
    /// The mark of its packets (`SO_MARK`, takes `CAP_NET_ADMIN`).
    pub mark: Option<u32>,
}

/// A non-blocking socket of the family of `peer` that bears the origin's address.
fn outgoing(peer: SocketAddr, kind: Type, origin: &Origin) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), kind.nonblocking(), None)?;
    let Some(address) = origin.address else { return Ok(socket) };
    match address.is_ipv4() {
        true => socket.set_ip_transparent_v4(true)?,
        false => socket.set_ip_transparent_v6(true)?,
    }
    if let Some(mark) = origin.mark {
        socket.set_mark(mark)?;
    }
    // Several connections of one client may bear the same port, to different peers.
    socket.set_reuse_address(true)?;
    match socket.bind(&SockAddr::from(address)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            socket.bind(&SockAddr::from(SocketAddr::new(address.ip(), 0)))?;
        }
        bound => bound?,
    }
    Ok(socket)
}

/// Whether an error says that there are no descriptors or memory for another socket.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTION: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| EXHAUSTION.contains(&code))
}

/// A connection that is under way is not an error.
fn begun(connected: io::Result<()>) -> io::Result<()> {
    match connected {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        connected => connected,
    }
}
