//! TCP.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Origin, begun, outgoing};

/// Connections that wait to be accepted at most; the system bounds it further (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

/// A socket that takes connections.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Takes the address; connections are refused until it [listens](Self::listen). They are kept alive by probes, and
    /// send at once what they have.
    ///
    /// # Errors
    /// When the address is taken, or not the node's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        // Connections of a listener that was there before do not keep the address.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // What it accepts inherits both.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.bind(&SockAddr::from(address))?;
        Ok(Self(socket))
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// When another socket was faster.
    pub fn listen(&self) -> io::Result<()> {
        self.0.listen(BACKLOG)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        address_of(&self.0.local_addr()?)
    }

    /// The next connection, and the client's address.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, client) = self.0.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
        Ok((Stream(socket), address_of(&client)?))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct Stream(Socket);

impl Stream {
    /// Begins to connect. It is connected when it can be written to and has no [error](Self::error).
    ///
    /// # Errors
    /// When the peer cannot be reached, as far as is known at once, or the origin's address cannot be borne.
    pub fn connect(peer: SocketAddr, origin: &Origin) -> io::Result<Self> {
        let socket = outgoing(peer, Type::STREAM, origin)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        begun(socket.connect(&SockAddr::from(peer)))?;
        Ok(Self(socket))
    }

    /// Whether it is connected by now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.peer_addr().is_ok()
    }

    /// Receives into a buffer. 0 when the peer has closed its side.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// The same, but what is received can be received again.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?)
    }

    /// Receives into nowhere. What the buffer holds does not change; it only bounds how much is thrown away.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn discard(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?)
    }

    /// Sends as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    /// Closes our side; the peer may go on sending.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Closes the connection so that the peer sees that it failed.
    pub fn reset(self) {
        // If it does not work the connection ends in the usual way, which is all that is left to do.
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }

    /// Why the connection failed, if it did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Where the client connected to, before the kernel translated it to our address (conntrack's `SO_ORIGINAL_DST`);
    /// our own address if it did not.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn original_destination(&self) -> io::Result<SocketAddr> {
        let local = address_of(&self.0.local_addr()?)?;
        let original = match local {
            SocketAddr::V4(_) => self.0.original_dst_v4(),
            SocketAddr::V6(_) => self.0.original_dst_v6(),
        };
        original.map_or(Ok(local), |original| address_of(&original))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn address_of(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
