//! What is behind the proxies: one thread that answers, takes or sends on many connections.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, recv};
use testbed::Protocol;

use crate::frontend::{self, Frontend, PORTION};
use crate::poller::Poller;

/// Says that it listens.
pub(crate) const READY: &str = "ready";

/// Serves until the process ends.
pub(crate) fn run() -> Result<()> {
    let mut server = Server::new()?;
    println!("{READY}");
    loop {
        for (number, flags) in server.poller.wait(None)? {
            server.serve(number, flags)?;
        }
    }
}

/// Sockets by their number.
struct Server {
    poller: Poller,
    sockets: Vec<Option<Served>>,
    /// Numbers that are free.
    free: Vec<usize>,
    buffer: Vec<u8>,
    /// A [`PORTION`] to send.
    portion: File,
}

enum Served {
    Listener(TcpListener, Frontend),
    Datagrams(UdpSocket),
    Connection(Connection),
}

struct Connection {
    stream: TcpStream,
    frontend: Frontend,
    /// Bytes taken that were not acknowledged.
    taken: usize,
}

impl Server {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join("portion");
        std::fs::write(&path, vec![0; PORTION])?;
        let mut server = Self {
            poller: Poller::new()?,
            sockets: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; PORTION],
            portion: File::open(path)?,
        };
        for frontend in frontend::all() {
            let address = (Ipv4Addr::UNSPECIFIED, frontend.port);
            let context = || format!("cannot listen on port {}", frontend.port);
            let served = match frontend.protocol {
                Protocol::Udp => {
                    // Answers come from the address that was asked.
                    let address = (frontend::endpoint(1), frontend.port);
                    let socket = UdpSocket::bind(address).with_context(context)?;
                    socket.set_nonblocking(true)?;
                    Served::Datagrams(socket)
                }
                _ => {
                    let socket = TcpListener::bind(address).with_context(context)?;
                    // The queue is longer than that of the standard library.
                    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(4096)?)?;
                    socket.set_nonblocking(true)?;
                    Served::Listener(socket, frontend)
                }
            };
            server.add(served)?;
        }
        Ok(server)
    }

    fn add(&mut self, served: Served) -> Result<()> {
        let number = self.free.pop().unwrap_or(self.sockets.len());
        let into = EpollFlags::EPOLLIN;
        match &served {
            Served::Listener(listener, _) => self.poller.add(listener, number, into)?,
            Served::Datagrams(socket) => self.poller.add(socket, number, into)?,
            Served::Connection(Connection { stream, frontend, .. }) => {
                let sends = frontend.port == frontend::SOURCE.port;
                self.poller.add(stream, number, if sends { EpollFlags::EPOLLOUT } else { into })?;
            }
        }
        match self.sockets.get_mut(number) {
            Some(place) => *place = Some(served),
            None => self.sockets.push(Some(served)),
        }
        Ok(())
    }

    fn serve(&mut self, number: usize, flags: EpollFlags) -> Result<()> {
        let stays = match self.sockets.get_mut(number).and_then(Option::as_mut) {
            Some(Served::Listener(listener, frontend)) => {
                let (frontend, mut accepted) = (*frontend, Vec::new());
                while let Some((stream, _)) = retry_later(listener.accept())? {
                    accepted.push(stream);
                }
                for stream in accepted {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    self.add(Served::Connection(Connection { stream, frontend, taken: 0 }))?;
                }
                true
            }
            Some(Served::Datagrams(socket)) => {
                while let Some((length, from)) = retry_later(socket.recv_from(&mut self.buffer))? {
                    // A full buffer loses a datagram, as a network would.
                    retry_later(socket.send_to(&self.buffer[..length], from))?;
                }
                true
            }
            Some(Served::Connection(connection)) => {
                // Whatever breaks a connection ends it.
                !flags.contains(EpollFlags::EPOLLERR)
                    && connection.serve(&mut self.buffer, &self.portion).unwrap_or(false)
            }
            None => true,
        };
        if !stays {
            self.sockets[number] = None;
            self.free.push(number);
        }
        Ok(())
    }
}

impl Connection {
    /// False when it is to be closed.
    fn serve(&mut self, buffer: &mut [u8], portion: &File) -> io::Result<bool> {
        match self.frontend.port {
            port if port == frontend::SOURCE.port => self.send(portion),
            port if port == frontend::SINK.port => self.take(buffer),
            port => {
                let Some(length) = retry_later(self.stream.read(&mut buffer[..4096]))? else {
                    return Ok(true);
                };
                if port == frontend::ECHO.port {
                    self.stream.write_all(&buffer[..length])?;
                    return Ok(length > 0);
                }
                let name = match self.stream.local_addr()?.ip() {
                    IpAddr::V4(address) => address.octets()[3],
                    IpAddr::V6(_) => 0,
                };
                self.stream.write_all(&[name])?;
                Ok(false)
            }
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        // The bytes are not copied.
        let taken = match recv(self.stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Err(Errno::EAGAIN) => return Ok(true),
            taken => taken?,
        };
        self.taken += taken;
        while self.taken >= PORTION {
            self.taken -= PORTION;
            self.stream.write_all(&[1])?;
        }
        Ok(taken > 0)
    }

    fn send(&self, portion: &File) -> io::Result<bool> {
        match sendfile(&self.stream, portion, Some(&mut 0), PORTION) {
            Ok(_) | Err(Errno::EAGAIN) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// `None` if there is nothing to be done now.
pub(crate) fn retry_later<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}
