//! A client's sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::ensure;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::Close;

/// What a server is asked with: over UDP it has to be, over TCP once it has greeted.
pub(super) const QUESTION: &[u8] = b"?\n";

/// Where connections go, as what, and how they end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) target: SocketAddr,
    pub(super) udp: bool,
    pub(super) close: Close,
}

impl Path {
    /// The number of the protocol (`/etc/protocols`).
    pub(super) fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    /// As Kubernetes writes it.
    pub(super) fn protocol_name(&self) -> &'static str {
        if self.udp { "UDP" } else { "TCP" }
    }

    /// Begins a connection that does not block. Also says which address and port it has here.
    pub(super) fn begin(&self, source: Option<IpAddr>) -> io::Result<(Socket, SocketAddr)> {
        let kind = if self.udp { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(Domain::for_address(self.target), kind.nonblocking().cloexec(), None)?;
        if let Some(source) = source {
            // The port is chosen when the target is known, so that other targets' ports are no hindrance. Without, there
            // are fewer of them.
            let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        if !self.udp {
            socket.set_tcp_nodelay(true)?;
            if self.close == Close::Reset {
                socket.set_linger(Some(Duration::ZERO))?;
            }
        }
        match socket.connect(&SockAddr::from(self.target)) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let local = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no local address"))?;
        Ok((socket, local))
    }
}

/// Whether an address is one of this host's.
pub(super) fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether the addresses to connect from can be used.
pub(super) fn check_sources(sources: &[IpAddr], target: SocketAddr) -> anyhow::Result<()> {
    for source in sources {
        ensure!(
            source.is_ipv4() == target.is_ipv4(),
            "--from {source} is of another address family than {target}: give one of the same"
        );
        ensure!(
            is_of_this_host(*source),
            "--from {source} is no address of this host (see `ip address`): give one, or add it"
        );
    }
    Ok(())
}
