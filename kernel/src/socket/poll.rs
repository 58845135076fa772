//! Waiting for sockets to become ready.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Events taken at a time.
const CAPACITY: usize = 256;

/// What of a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to take, told for as long as there is, to one of all pollers that wait for it.
    Shared,
    /// Something to take, told for as long as there is.
    Readable,
    /// Both directions of a stream, told once for each change.
    Stream,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Shared => EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE,
            Self::Readable => EpollFlags::EPOLLIN,
            Self::Stream => {
                EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
            }
        }
    }
}

/// A set of sockets of which the kernel tells which are ready (epoll). A socket leaves it when it is closed.
#[derive(Debug)]
pub struct Poller(Epoll);

impl Poller {
    /// A poller without sockets.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds a socket; its events bear the token.
    ///
    /// # Errors
    /// When the kernel has no memory for it, or it is there already.
    pub fn add(&self, socket: &impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        Ok(self.0.add(socket, EpollEvent::new(interest.flags(), token))?)
    }

    /// Takes out a socket that stays open.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(socket)?)
    }

    /// Waits until a socket is ready or the time is over. Without a time, for as long as it takes.
    ///
    /// # Errors
    /// Those of `epoll_wait`; an interruption is none.
    pub fn wait(&self, events: &mut Events, time: Option<Duration>) -> io::Result<()> {
        events.count = 0;
        let timeout = match time {
            // Rounded up, so as not to come too early and spin.
            Some(time) => {
                let time = time.checked_add(Duration::from_nanos(999_999)).unwrap_or(time);
                EpollTimeout::try_from(time).unwrap_or(EpollTimeout::MAX)
            }
            None => EpollTimeout::NONE,
        };
        match self.0.wait(&mut events.buffer, timeout) {
            Ok(count) => events.count = count,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

/// Room for what a [`Poller`] tells.
#[derive(Debug)]
pub struct Events {
    buffer: Box<[EpollEvent]>,
    count: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { buffer: vec![EpollEvent::empty(); CAPACITY].into(), count: 0 }
    }
}

impl Events {
    /// How many sockets were told to be ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them, counted from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Event> {
        let event = self.buffer.get(..self.count)?.get(index)?;
        let flags = event.events();
        Some(Event {
            token: event.data(),
            readable: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP),
            writable: flags.contains(EpollFlags::EPOLLOUT),
            ended: flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
            failed: flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
        })
    }
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which socket.
    pub token: u64,
    /// There is something to read, be it the end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// Nothing will come after what can be read now.
    pub ended: bool,
    /// The socket has an error, or both directions are closed.
    pub failed: bool,
}

/// Wakes a thread that waits in a [`Poller`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker whose calls appear in the poller as events with the token.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(poller: &Poller, token: u64) -> io::Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        poller.add(&event, Interest::Readable, token)?;
        Ok(Self(Arc::new(event)))
    }

    /// Wakes it, now or when it waits next.
    pub fn wake(&self) {
        // It fails only if it has been called 2^64 times unheard, and then the thread will wake all the same.
        let _ = self.0.write(1);
    }

    /// Takes back all calls so far.
    pub fn clear(&self) {
        // Nothing to take back is no failure.
        let _ = self.0.read();
    }
}
