//! Waits for many sockets at once, and no longer than until a moment.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What happened to a socket, and which it was.
pub(crate) type Event = (usize, EpollFlags);

pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); 256] })
    }

    /// Until the socket is closed.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize, flags: EpollFlags) -> Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(flags, number as u64))?)
    }

    /// Waits until something happens or it is that late; forever if no moment is given.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Result<impl Iterator<Item = Event> + use<>> {
        let mut ready = self.epoll.wait(&mut self.events, EpollTimeout::ZERO)?;
        if ready == 0 {
            // Unlike epoll_wait, it takes less than milliseconds.
            let time = until.map(|until| until.saturating_duration_since(Instant::now()).into());
            match ppoll(&mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)], time, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            ready = self.epoll.wait(&mut self.events, EpollTimeout::ZERO)?;
        }
        let events = self.events.iter().take(ready);
        let events: Vec<Event> =
            events.map(|event| (usize::try_from(event.data()).unwrap_or_default(), event.events())).collect();
        Ok(events.into_iter())
    }
}
