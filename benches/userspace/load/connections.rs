//! Connections that are asked once, answered once, and closed by the server.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::pace::{Pace, Paced};
use super::{Load, Tally};
use crate::poller::Poller;
use crate::server::retry_later;

/// More cannot be under way: the load is too much.
const MOST: usize = 4_000;

pub(crate) struct Connections {
    to: SocketAddr,
    pace: Pace,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

struct Connection {
    socket: Socket,
    since: Instant,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Connecting,
    Asked,
    Answered,
}

impl Connections {
    pub(crate) fn new(to: SocketAddr, pace: Pace) -> Result<Self> {
        Ok(Self { to, pace, poller: Poller::new()?, connections: Vec::new(), free: Vec::new() })
    }

    fn begin(&mut self, since: Instant) -> Result<()> {
        let number = self.free.pop().unwrap_or(self.connections.len());
        ensure!(number < MOST, "{MOST} connections to {} are under way: it does not keep up", self.to);
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM.nonblocking(), None)?;
        match socket.connect(&SockAddr::from(self.to)) {
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            other => other.with_context(|| format!("cannot connect to {}", self.to))?,
        }
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.poller.add(&socket, number, flags)?;
        let connection = Some(Connection { socket, since, state: State::Connecting });
        match self.connections.get_mut(number) {
            Some(place) => *place = connection,
            None => self.connections.push(connection),
        }
        Ok(())
    }
}

impl Load for Connections {
    fn run(&mut self, time: Duration) -> Result<Tally> {
        let (started, mut tally) = (Instant::now(), Tally::default());
        let (end, mut pace) = (started + time, Paced::new(self.pace));
        while Instant::now() < end {
            while let Some(since) = pace.due(self.connections.len() - self.free.len()) {
                self.begin(since)?;
            }
            for (number, flags) in self.poller.wait(Some(pace.until(end)))? {
                let place = self.connections.get_mut(number).context("no such connection")?;
                let Some(connection) = place else { continue };
                let closed = connection.go_on(flags, &mut tally.latencies);
                if closed.with_context(|| format!("a connection to {} broke", self.to))? {
                    *place = None;
                    self.free.push(number);
                    tally.done += 1;
                }
            }
        }
        tally.took = started.elapsed();
        Ok(tally)
    }
}

impl Connection {
    /// True when it is over.
    fn go_on(&mut self, flags: EpollFlags, latencies: &mut Vec<Duration>) -> Result<bool> {
        if let Some(error) =
            flags.contains(EpollFlags::EPOLLERR).then(|| self.socket.take_error()).transpose()?
        {
            return error.map_or(Ok(false), |error| Err(error.into()));
        }
        if self.state == State::Connecting && flags.contains(EpollFlags::EPOLLOUT) {
            self.socket.write_all(b"?")?;
            self.state = State::Asked;
        }
        if !flags.contains(EpollFlags::EPOLLIN) {
            return Ok(false);
        }
        let mut buffer = [0; 64];
        while let Some(length) = retry_later(self.socket.read(&mut buffer))? {
            match (length, &self.state) {
                (0, State::Answered) => return Ok(true),
                (0, _) => bail!("it was closed without an answer"),
                _ => {
                    latencies.push(self.since.elapsed());
                    self.state = State::Answered;
                }
            }
            if !flags.contains(EpollFlags::EPOLLRDHUP) {
                break;
            }
        }
        Ok(false)
    }
}
