//! Who answered: the kernel knows, or the server says.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use kernel::conntrack::{Conntrack, Flow};
use kernel::socket::{Events, Interest, Poller};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::socket::{Path, QUESTION, is_of_this_host};
use super::tally::Who;
use crate::cli::By;

/// How long a server may take to greet when it is not known whether it does.
const GREETING: Duration = Duration::from_millis(500);

/// What tells who answered.
pub(super) enum Teller {
    /// The kernel's connection tracking.
    Conntrack(Conntrack),
    /// The server itself.
    Responder,
}

/// The same in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Told {
    Conntrack,
    Responder,
}

impl Teller {
    /// The one that is asked for, or that can tell.
    pub(super) fn choose(
        by: By,
        path: &Path,
        source: Option<IpAddr>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        match by {
            By::Responder => Ok(Self::Responder),
            By::Conntrack => {
                let mut conntrack = Conntrack::open()?;
                // Whether it may be asked is only told when it is.
                let nowhere = SocketAddr::new(path.target.ip(), 0);
                let asked = conntrack.find(path.protocol(), nowhere, path.target);
                asked.context("--by conntrack takes the node's root; --by responder takes no privileges")?;
                Ok(Self::Conntrack(conntrack))
            }
            By::Auto => Ok(Self::try_out(path, source, timeout)),
        }
    }

    /// Looks at one connection, which does not count.
    fn try_out(path: &Path, source: Option<IpAddr>, timeout: Duration) -> Self {
        let Ok(mut conntrack) = Conntrack::open() else { return Self::Responder };
        // A connection that fails tells nothing.
        let Ok((mut socket, local)) = path.begin(source) else { return Self::Conntrack(conntrack) };
        if path.udp {
            let _ = socket.write(QUESTION);
        }
        let there = await_event(&socket, timeout, |event| {
            event.failed || event.readable || (event.writable && !path.udp)
        });
        let Ok(flow) = conntrack.find(path.protocol(), local, path.target) else { return Self::Responder };
        let greets = || path.udp || await_event(&socket, GREETING, |event| event.readable);
        match flow {
            Some(flow) if is_led_on(&flow, path.target) => Self::Conntrack(conntrack),
            // It may be translated elsewhere, as it is if this is a pod, or carried on by a process.
            _ if there && greets() && socket.read(&mut [0]).is_ok_and(|length| length > 0) => Self::Responder,
            _ => Self::Conntrack(conntrack),
        }
    }

    /// In a word.
    pub(super) fn told(&self) -> Told {
        match self {
            Self::Conntrack(_) => Told::Conntrack,
            Self::Responder => Told::Responder,
        }
    }

    /// Whom the kernel leads a connection to; none if only the server can tell.
    pub(super) fn of(&mut self, path: &Path, local: SocketAddr) -> anyhow::Result<Option<Who>> {
        let Self::Conntrack(conntrack) = self else { return Ok(None) };
        let flow = conntrack.find(path.protocol(), local, path.target)?;
        let address = flow.map(|flow| SocketAddr::new(flow.replier, flow.replier_port));
        Ok(address.map(|address| Who { address: Some(address), name: None }))
    }
}

/// Whether another host answers than the one that is asked. One that is this host may be userspace mode's process.
fn is_led_on(flow: &Flow, target: SocketAddr) -> bool {
    let replier = (flow.replier, flow.replier_port);
    replier != (target.ip(), target.port()) && !is_of_this_host(flow.replier)
}

/// Whether an event comes within a time.
fn await_event(socket: &Socket, time: Duration, wanted: impl Fn(kernel::socket::Event) -> bool) -> bool {
    let deadline = Instant::now() + time;
    let attempt = || -> std::io::Result<bool> {
        let (poller, mut events) = (Poller::new()?, Events::default());
        poller.add(socket, Interest::Stream, 0)?;
        while Instant::now() < deadline {
            poller.wait(&mut events, Some(deadline.saturating_duration_since(Instant::now())))?;
            if events.get(0).is_some_and(&wanted) {
                return Ok(true);
            }
        }
        Err(ErrorKind::TimedOut.into())
    };
    attempt().unwrap_or(false)
}
