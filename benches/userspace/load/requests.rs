//! Requests on connections that stay, and datagrams of flows that stay.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::EpollFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::pace::{Pace, Paced};
use super::{Load, Tally};
use crate::poller::Poller;
use crate::server::retry_later;

/// Bytes of a request, and of its answer.
const LENGTH: usize = 64;
/// After which a datagram is lost.
const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) struct Requests {
    pace: Pace,
    kind: Type,
    poller: Poller,
    flows: Vec<Flow>,
    /// Flows without a request under way.
    idle: Vec<usize>,
}

struct Flow {
    socket: Socket,
    /// Of the request under way, if there is one.
    since: Option<Instant>,
    received: usize,
}

impl Requests {
    /// Opens so many connections, or flows of datagrams.
    pub(crate) fn open(to: SocketAddr, kind: Type, flows: usize, pace: Pace) -> Result<Self> {
        let poller = Poller::new()?;
        let idle = (0..flows).rev().collect();
        let open = |number| -> Result<Flow> {
            let socket = Socket::new(Domain::for_address(to), kind, None)?;
            socket.connect(&SockAddr::from(to)).with_context(|| format!("cannot connect to {to}"))?;
            socket.set_nonblocking(true)?;
            if kind == Type::STREAM {
                socket.set_tcp_nodelay(true)?;
            }
            poller.add(&socket, number, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
            Ok(Flow { socket, since: None, received: 0 })
        };
        let flows = (0..flows).map(open).collect::<Result<_>>()?;
        Ok(Self { pace, kind, poller, flows, idle })
    }

    fn send(&mut self, pace: &mut Paced) -> Result<()> {
        while let Some(number) = self.idle.last() {
            let Some(due) = pace.due(self.flows.len() - self.idle.len()) else { break };
            let flow = &mut self.flows[*number];
            flow.socket.write_all(&[b'?'; LENGTH])?;
            flow.since = Some(due);
            self.idle.pop();
        }
        Ok(())
    }

    /// Sends what was lost once more. Returns how many there are.
    fn send_again(&mut self) -> Result<u64> {
        let mut lost = 0;
        for flow in &mut self.flows {
            if flow.since.is_some_and(|since| since.elapsed() > PATIENCE) {
                flow.socket.write_all(&[b'?'; LENGTH])?;
                flow.since = Some(Instant::now());
                lost += 1;
            }
        }
        Ok(lost)
    }
}

impl Load for Requests {
    fn run(&mut self, time: Duration) -> Result<Tally> {
        let (started, mut tally, mut lost) = (Instant::now(), Tally::default(), 0);
        let (end, mut pace) = (started + time, Paced::new(self.pace));
        let mut swept = started;
        while Instant::now() < end {
            self.send(&mut pace)?;
            let until = match self.kind {
                Type::DGRAM => (swept + PATIENCE).min(end),
                _ if self.idle.is_empty() => end,
                _ => pace.until(end),
            };
            for (number, _) in self.poller.wait(Some(until))? {
                let flow = self.flows.get_mut(number).context("no such flow")?;
                if flow.receive()? {
                    tally.latencies.extend(flow.since.take().map(|since| since.elapsed()));
                    tally.done += 1;
                    self.idle.push(number);
                }
            }
            if self.kind == Type::DGRAM && swept.elapsed() > PATIENCE {
                lost += self.send_again()?;
                swept = Instant::now();
            }
        }
        ensure!(lost <= tally.done / 100, "{lost} datagrams were lost, and {} answered", tally.done);
        tally.took = started.elapsed();
        Ok(tally)
    }
}

impl Flow {
    /// True when the answer is complete.
    fn receive(&mut self) -> Result<bool> {
        let mut buffer = [0; LENGTH];
        let Some(length) = retry_later(self.socket.read(&mut buffer))? else { return Ok(false) };
        ensure!(length > 0, "a kept connection was closed");
        self.received += length;
        let complete = self.received >= LENGTH;
        if complete {
            self.received = 0;
        }
        // An answer that was thought lost answers nothing.
        Ok(complete && self.since.is_some())
    }
}
