//! The forwarder: carries connections and datagrams between clients and endpoints.
//!
//! It knows nothing of how traffic gets to it. A [`Target`] is a place where it listens (an *entrance*, once it is open)
//! and the endpoints that serve what arrives there.
//!
//! # Theory of operation
//!
//! A few threads (`worker`) wait for sockets to become ready, each with sockets of its own. A TCP entrance is watched
//! by all of them, and whoever is free accepts (`tcp`), to hand on what others have more time for. Of a UDP entrance
//! each has a socket, and the kernel sends what comes from one client to one of them (`udp`). From then on a
//! connection or session stays with its thread, so nothing of it needs a lock. What threads share is an entrance's
//! endpoints, with whose turn it is (`balance`), and the bounds of the whole (`bounds`).
//!
//! A connection is accepted, an endpoint chosen and connected to, and only then is the client listened to: nothing of
//! it can be lost or sent twice when the next endpoint must be tried. Each direction (`flow`) then copies small amounts
//! and sends large ones through a pipe. What a connection keeps while it is idle is its two sockets and some two
//! hundred bytes.

mod balance;
mod bounds;
mod clock;
mod endpoint;
mod entrance;
mod figures;
mod flow;
mod options;
mod pipes;
mod proxy_protocol;
mod sparingly;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod token;
mod udp;
mod worker;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use endpoint_cache::Protocol;
use kernel::socket::{Datagrams, Listener, Poller, raise_descriptor_limit};

use self::bounds::{Bounds, Quota};
use self::clock::Clock;
use self::entrance::{Door, Entrance, EntranceId, Opened};
use self::worker::{Command, Mailbox, Shared, Worker};
pub use figures::Figures;
pub use options::{Balancing, Options};
pub use target::{EndpointStatus, KeepsAddress, OpenError, SourceAddress, Target, TargetKey, TargetStatus};

/// Descriptors that are left for everything but traffic: listening, programming the kernel, sources and so on.
const DESCRIPTORS_RESERVED: usize = 256;

/// Threads that carry traffic, and the targets that they serve. Dropping it ends every connection.
pub struct Forwarder {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    entrances: Mutex<BTreeMap<TargetKey, Opened>>,
    next: AtomicU32,
    /// Only read and changed while `entrances` is locked.
    held_back: AtomicBool,
}

impl Forwarder {
    /// Starts the threads. There are no targets yet.
    ///
    /// # Errors
    /// When the system has no thread or descriptor for it.
    pub fn start(options: Options) -> Result<Self, crate::Error> {
        let limit = usize::try_from(raise_descriptor_limit()?).unwrap_or(usize::MAX);
        let bound = |most: Option<NonZeroUsize>| Quota::new(most.map_or(usize::MAX, NonZeroUsize::get));
        let bounds = Bounds {
            descriptors: Quota::new(limit.saturating_sub(DESCRIPTORS_RESERVED)),
            connections: bound(options.max_connections),
            sessions_each: options
                .max_sessions
                .map_or(usize::MAX, |most| most.get().div_ceil(options.workers.get())),
            held: Quota::new(options.max_held_bytes),
        };
        let count = options.workers.get();
        let start = || -> io::Result<(Arc<Shared>, Vec<Worker>)> {
            let pollers = (0..count).map(|_| Poller::new()).collect::<io::Result<Vec<_>>>()?;
            let mailboxes = pollers.iter().map(Mailbox::new).collect::<io::Result<_>>()?;
            let shared = Arc::new(Shared { options, bounds, clock: Clock::start(), mailboxes });
            let start = |(number, poller)| Worker::start(number, poller, shared.clone());
            let workers = pollers.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
            Ok((shared, workers))
        };
        let (shared, workers) = start().map_err(|error| crate::Error::NoThread(error.to_string()))?;
        Ok(Self {
            shared,
            workers,
            entrances: Mutex::default(),
            next: AtomicU32::new(0),
            held_back: AtomicBool::new(false),
        })
    }

    /// Begins to listen for a target that is not open yet. Connections wait from now on.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn open(&self, key: TargetKey, listen: SocketAddr, target: &Target) -> Result<(), OpenError> {
        let mut entrances = self.entrances();
        if entrances.contains_key(&key) {
            return Err(refusal(listen, ErrorKind::AddrInUse.into()));
        }
        let descriptors = self.descriptors(&key);
        if !self.shared.bounds.descriptors.take(descriptors) {
            return Err(refusal(listen, io::Error::other("there are no file descriptors left")));
        }
        let opened = self.build(key.clone(), listen, target).inspect_err(|_| {
            self.shared.bounds.descriptors.give_back(descriptors);
        })?;
        if !self.held_back.load(Ordering::Relaxed) {
            self.serve(&opened).map_err(|cause| refusal(listen, cause)).inspect_err(|_| {
                self.shared.bounds.descriptors.give_back(descriptors);
            })?;
        }
        entrances.insert(key, opened);
        Ok(())
    }

    /// Takes addresses only, from now on: nobody is served where targets are opened until [`Self::serve_all`].
    ///
    /// While clients are still led by what an earlier process has left, the one that is led here may mean another
    /// target.
    pub fn hold_back(&self) {
        self.held_back.store(true, Ordering::Relaxed);
    }

    /// Serves all that was held back.
    pub fn serve_all(&self) {
        let entrances = self.entrances();
        if !self.held_back.swap(false, Ordering::Relaxed) {
            return;
        }
        for opened in entrances.values() {
            if let Err(error) = self.serve(opened) {
                let Entrance { key, listens, .. } = &*opened.entrance;
                tracing::error!(service = %key.name, "cannot listen on {listens}: {error}");
            }
        }
    }

    fn serve(&self, opened: &Opened) -> io::Result<()> {
        opened.door.open()?;
        self.workers.iter().for_each(|worker| worker.tell(Command::Open(opened.clone())));
        Ok(())
    }

    fn build(&self, key: TargetKey, listen: SocketAddr, target: &Target) -> Result<Opened, OpenError> {
        let id = EntranceId(self.next.fetch_add(1, Ordering::Relaxed));
        let door = match key.name.protocol {
            Protocol::Tcp => Listener::bind(listen).and_then(|door| Ok((door.address()?, Door::Tcp(door)))),
            Protocol::Udp => Datagrams::bind(listen, self.shared.options.workers)
                .and_then(|doors| Ok((doors[0].address()?, Door::Udp(doors)))),
            Protocol::Sctp => Err(io::Error::new(ErrorKind::Unsupported, "SCTP is not carried")),
        };
        let (listens, door) = door.map_err(|cause| refusal(listen, cause))?;
        let entrance = Arc::new(Entrance::new(id, key, listens, target));
        Ok(Opened { entrance, door: Arc::new(door) })
    }

    /// Changes an open target. Connections under way stay, sessions to endpoints that are gone end. False when it is
    /// not open.
    pub fn change(&self, key: &TargetKey, target: &Target) -> bool {
        let entrances = self.entrances();
        let Some(opened) = entrances.get(key) else { return false };
        opened.entrance.change(target);
        if let Door::Udp(_) = *opened.door {
            self.workers.iter().for_each(|worker| worker.tell(Command::Changed(opened.entrance.id)));
        }
        true
    }

    /// No longer listens. Connections under way stay, sessions end. False when it is not open.
    pub fn close(&self, key: &TargetKey) -> bool {
        let Some(opened) = self.entrances().remove(key) else { return false };
        let closing: Vec<_> = self.workers.iter().map(|worker| worker.close(opened.entrance.id)).collect();
        // A thread that has ended serves nothing. When all have let go, the address is free.
        for done in closing {
            let _ = done.recv();
        }
        self.shared.bounds.descriptors.give_back(self.descriptors(key));
        true
    }

    /// Descriptors that it takes to listen.
    fn descriptors(&self, key: &TargetKey) -> usize {
        match key.name.protocol {
            Protocol::Udp => self.workers.len(),
            Protocol::Tcp | Protocol::Sctp => 1,
        }
    }

    /// The state of every target, sorted by key.
    #[must_use]
    pub fn status(&self) -> Vec<TargetStatus> {
        let now = self.shared.clock.now();
        self.entrances().values().map(|opened| opened.entrance.status(now)).collect()
    }

    /// What all targets did.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        self.workers.iter().for_each(|worker| worker.counters().add_to(&mut figures));
        figures
    }

    fn entrances(&self) -> MutexGuard<'_, BTreeMap<TargetKey, Opened>> {
        // Whoever panicked while holding it left a whole map behind.
        self.entrances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(address: SocketAddr, cause: io::Error) -> OpenError {
    match cause.kind() {
        ErrorKind::AddrInUse => OpenError::InUse(address),
        _ => OpenError::Io { address, cause },
    }
}
