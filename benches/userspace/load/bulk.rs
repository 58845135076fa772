//! As many bytes as get through.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Load, Tally};
use crate::frontend::PORTION;
use crate::poller::Poller;
use crate::server::retry_later;

/// At once.
const CONNECTIONS: usize = 4;

/// From the client to the server, which acknowledges what it gets.
pub(crate) struct Upload {
    poller: Poller,
    sockets: Vec<Socket>,
    portion: File,
}

/// From the server to the client.
pub(crate) struct Download {
    poller: Poller,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
}

impl Upload {
    pub(crate) fn open(to: SocketAddr) -> Result<Self> {
        let path = std::env::temp_dir().join("sent-portion");
        std::fs::write(&path, vec![0; PORTION])?;
        let poller = Poller::new()?;
        let sockets = connect(to, &poller, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)?;
        Ok(Self { poller, sockets, portion: File::open(path)? })
    }
}

impl Download {
    pub(crate) fn open(to: SocketAddr) -> Result<Self> {
        let poller = Poller::new()?;
        let sockets = connect(to, &poller, EpollFlags::EPOLLIN)?;
        Ok(Self { poller, sockets, buffer: vec![0; PORTION] })
    }
}

fn connect(to: SocketAddr, poller: &Poller, flags: EpollFlags) -> Result<Vec<Socket>> {
    let connect = |number| -> Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.connect(&SockAddr::from(to)).with_context(|| format!("cannot connect to {to}"))?;
        socket.set_nonblocking(true)?;
        poller.add(&socket, number, flags)?;
        Ok(socket)
    };
    (0..CONNECTIONS).map(connect).collect()
}

impl Load for Upload {
    fn run(&mut self, time: Duration) -> Result<Tally> {
        let (started, mut tally, mut acknowledged) = (Instant::now(), Tally::default(), [0; 1024]);
        while started.elapsed() < time {
            for (number, flags) in self.poller.wait(Some(started + time))? {
                let socket = self.sockets.get_mut(number).context("no such connection")?;
                if flags.contains(EpollFlags::EPOLLIN)
                    && let Some(portions) = retry_later(socket.read(&mut acknowledged))?
                {
                    ensure!(portions > 0, "the server closed the connection");
                    tally.done += (portions * PORTION) as u64;
                }
                if flags.contains(EpollFlags::EPOLLOUT) {
                    match sendfile(&*socket, &self.portion, Some(&mut 0), PORTION) {
                        Ok(_) | Err(Errno::EAGAIN) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        tally.took = started.elapsed();
        Ok(tally)
    }
}

impl Load for Download {
    fn run(&mut self, time: Duration) -> Result<Tally> {
        let (started, mut tally) = (Instant::now(), Tally::default());
        while started.elapsed() < time {
            for (number, _) in self.poller.wait(Some(started + time))? {
                let socket = self.sockets.get(number).context("no such connection")?;
                // The bytes are not copied.
                match recv(socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                    Err(Errno::EAGAIN) => {}
                    Ok(0) => anyhow::bail!("the server closed the connection"),
                    length => tally.done += length? as u64,
                }
            }
        }
        tally.took = started.elapsed();
        Ok(tally)
    }
}
