//! A thread that carries traffic.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::socket::{Datagrams, Event, Events, Interest, Poller, Stream, Waker};

use super::bounds::Bounds;
use super::clock::{Clock, Moment};
use super::endpoint::Lease;
use super::entrance::{Door, Entrance, EntranceId, Opened};
use super::figures::Counters;
use super::flow::CHUNK;
use super::options::Options;
use super::pipes::Pipes;
use super::sparingly::Sparingly;
use super::tcp::Connections;
use super::token::{Kind, Token};
use super::udp::Sessions;

/// How often idle connections are looked for: at the soonest and at the latest.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));
/// After how long a door is tried again for which there were no descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections more than the least busy thread, besides an eighth, a thread takes on.
const SLACK: usize = 3;

/// What all threads share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
    /// One for each thread.
    pub(super) mailboxes: Box<[Mailbox]>,
}

/// How others speak to a thread.
pub(super) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    /// TCP connections that it carries.
    connections: AtomicUsize,
}

impl Mailbox {
    /// The mailbox of a thread that waits in a poller.
    pub(super) fn new(poller: &Poller) -> io::Result<Self> {
        let waker = Waker::new(poller, Token::WAKE.to_bits())?;
        Ok(Self { commands: Mutex::default(), waker, connections: AtomicUsize::new(0) })
    }

    pub(super) fn tell(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.waker.wake();
    }

    fn take(&self) -> Vec<Command> {
        self.waker.clear();
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a thread is told.
pub(super) enum Command {
    /// Serve this target.
    Open(Opened),
    /// Carry a connection that another thread accepted.
    Carry(Arc<Entrance>, Stream, SocketAddr),
    /// End what goes to endpoints that the target has no longer.
    Changed(EntranceId),
    /// No longer serve it. Says when that is done.
    Close(EntranceId, Sender<()>),
    /// End.
    Stop,
}

/// A running thread.
pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread that the mailbox of this number belongs to.
    pub(super) fn start(number: usize, poller: Poller, shared: Arc<Shared>) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut traffic = Traffic {
            tools: Tools {
                number,
                poller,
                now: shared.clock.now(),
                shared: shared.clone(),
                counters: counters.clone(),
                buffer: vec![0; CHUNK].into(),
                pipes: Pipes::default(),
                again: Vec::new(),
                shedding: Sparingly::default(),
            },
            entrances: HashMap::new(),
            paused: Vec::new(),
            connections: Connections::default(),
            sessions: Sessions::default(),
            swept: Moment::default(),
        };
        let name = format!("forwarder-{number}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = traffic.run() {
                tracing::error!("a thread that carries traffic has ended: {error}");
            }
        })?;
        Ok(Self { number, shared, counters, thread: Some(thread) })
    }

    pub(super) fn tell(&self, command: Command) {
        self.shared.mailboxes[self.number].tell(command);
    }

    /// Has it close a door. What is returned is heard of when that is done.
    pub(super) fn close(&self, id: EntranceId) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.tell(Command::Close(id, sender));
        receiver
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // If it panicked, that has been reported.
            let _ = thread.join();
        }
    }
}

/// What serving anything takes.
pub(super) struct Tools {
    number: usize,
    pub(super) poller: Poller,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
    /// The present, as of the last events.
    pub(super) now: Moment,
    pub(super) buffer: Box<[u8]>,
    pub(super) pipes: Pipes,
    /// What was interrupted so that others have their turn.
    pub(super) again: Vec<Token>,
    pub(super) shedding: Sparingly,
}

impl Tools {
    /// Who is to carry the next connection, if it had better be another thread: whoever is idle accepts all that come
    /// slowly, and would have them all when they get busy.
    pub(super) fn less_busy(&self) -> Option<&Mailbox> {
        let carried = |mailbox: &&Mailbox| mailbox.connections.load(Ordering::Relaxed);
        let mine = carried(&self.mailbox());
        let least = self.shared.mailboxes.iter().min_by_key(carried)?;
        let theirs = carried(&least);
        (mine > theirs + SLACK + theirs / 8).then_some(least)
    }

    /// Which of an entrance's sockets is this thread's.
    pub(super) fn own<'a>(&self, sockets: &'a [Datagrams]) -> &'a Datagrams {
        &sockets[self.number]
    }

    fn mailbox(&self) -> &Mailbox {
        &self.shared.mailboxes[self.number]
    }

    /// This thread carries one more connection.
    pub(super) fn count_connection(&self) {
        self.mailbox().connections.fetch_add(1, Ordering::Relaxed);
    }

    /// This thread carries one connection less.
    pub(super) fn discount_connection(&self) {
        self.mailbox().connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// An endpoint did not take a connection or datagram: others are preferred for a while.
    pub(super) fn set_aside(&mut self, lease: &Lease, error: &io::Error) {
        self.counters.connect_failures.raise();
        // There are no ports left to reach it from, which is no fault of its own.
        if error.kind() == io::ErrorKind::AddrNotAvailable {
            return;
        }
        let endpoint = &lease.endpoint;
        let known = endpoint.is_aside(self.now);
        let time = endpoint.failed(self.now);
        if !known {
            let target = &lease.entrance.key.name;
            tracing::info!(service = %target, endpoint = %endpoint.address(), ?time, "set aside: {error}");
        }
    }
}

/// The traffic of a thread.
struct Traffic {
    tools: Tools,
    entrances: HashMap<EntranceId, Opened>,
    /// Doors that are not looked at until some moment.
    paused: Vec<(Moment, EntranceId)>,
    connections: Connections,
    sessions: Sessions,
    /// When idle connections were looked for last.
    swept: Moment,
}

impl Traffic {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::default();
        let sweeps = self.between_sweeps();
        loop {
            let wait = self.wait(sweeps);
            self.tools.poller.wait(&mut events, Some(wait))?;
            self.tools.now = self.tools.shared.clock.now();
            for index in 0..events.len() {
                let Some(event) = events.get(index) else { continue };
                if self.serve(event) == Next::Stop {
                    return Ok(());
                }
            }
            self.go_on();
            self.connections.give_up_slow_attempts(&mut self.tools);
            if self.tools.now.since(self.swept) >= sweeps {
                self.sweep();
            }
            self.resume();
        }
    }

    fn serve(&mut self, event: Event) -> Next {
        let token = Token::from_bits(event.token);
        match token.kind {
            Kind::Wake => return self.obey(),
            Kind::Door => {
                let id = EntranceId(token.place);
                let Some(opened) = self.entrances.get(&id) else { return Next::GoOn };
                match &*opened.door {
                    Door::Tcp(listener) => {
                        let taken = self.connections.accept(&opened.entrance, listener, &mut self.tools);
                        if taken.is_err() {
                            self.pause(id);
                        }
                    }
                    Door::Udp(_) => self.sessions.receive(opened, &mut self.tools),
                }
            }
            Kind::Client | Kind::Endpoint => self.connections.ready(token, event, &mut self.tools),
            Kind::Session => self.sessions.answered(token, &mut self.tools),
        }
        Next::GoOn
    }

    /// Does what the thread was told.
    fn obey(&mut self) -> Next {
        for command in self.tools.mailbox().take() {
            match command {
                Command::Carry(entrance, client, address) => {
                    self.connections.take_in(&entrance, client, address, &mut self.tools);
                }
                Command::Open(opened) => self.open(opened),
                Command::Changed(id) => self.sessions.end_those_to_gone_endpoints(id, &mut self.tools),
                Command::Close(id, done) => {
                    self.close(id);
                    // Nobody may be waiting any longer.
                    let _ = done.send(());
                }
                Command::Stop => return Next::Stop,
            }
        }
        Next::GoOn
    }

    fn open(&mut self, opened: Opened) {
        let Opened { entrance, door } = &opened;
        let token = Token::door(entrance.id.0).to_bits();
        let added = match &**door {
            Door::Tcp(listener) => self.tools.poller.add(listener, Interest::Shared, token),
            Door::Udp(sockets) => self.tools.poller.add(self.tools.own(sockets), Interest::Readable, token),
        };
        if let Err(error) = added {
            tracing::error!(service = %entrance.key.name, "cannot wait for clients: {error}");
        }
        self.entrances.insert(entrance.id, opened);
    }

    fn close(&mut self, id: EntranceId) {
        let Some(opened) = self.entrances.remove(&id) else { return };
        self.sessions.end_all(id, &mut self.tools);
        // One that is paused is not there.
        let _ = match &*opened.door {
            Door::Tcp(listener) => self.tools.poller.remove(listener),
            Door::Udp(sockets) => self.tools.poller.remove(self.tools.own(sockets)),
        };
    }

    /// Looks away from a door for a moment: there is nothing to take its connections with.
    fn pause(&mut self, id: EntranceId) {
        if let Some(Door::Tcp(listener)) = self.entrances.get(&id).map(|opened| &*opened.door)
            && self.tools.poller.remove(listener).is_ok()
        {
            self.paused.push((self.tools.now.after(PAUSE), id));
        }
    }

    fn resume(&mut self) {
        let now = self.tools.now;
        for (_, id) in self.paused.extract_if(.., |(until, _)| *until <= now).collect::<Vec<_>>() {
            if let Some(Door::Tcp(listener)) = self.entrances.get(&id).map(|opened| &*opened.door)
                && let Err(error) =
                    self.tools.poller.add(listener, Interest::Shared, Token::door(id.0).to_bits())
            {
                tracing::debug!("cannot look at a door again yet: {error}");
                self.paused.push((now.after(PAUSE), id));
            }
        }
    }

    /// Serves what was interrupted.
    fn go_on(&mut self) {
        for token in std::mem::take(&mut self.tools.again) {
            self.connections.go_on(token, &mut self.tools);
        }
    }

    fn sweep(&mut self) {
        self.swept = self.tools.now;
        self.connections.close_idle(&mut self.tools);
        self.sessions.end_idle(&mut self.tools);
        self.entrances.values().for_each(|opened| opened.entrance.forget_idle(self.tools.now));
    }

    /// How long to wait for events at most.
    fn wait(&self, sweeps: Duration) -> Duration {
        if !self.tools.again.is_empty() {
            return Duration::ZERO;
        }
        let now = self.tools.shared.clock.now();
        let sweep = self.swept.after(sweeps).since(now);
        let attempt = self.connections.next_deadline().map(|deadline| deadline.since(now));
        let pause = self.paused.iter().map(|(until, _)| until.since(now)).min();
        [attempt, pause].into_iter().flatten().fold(sweep, Duration::min)
    }

    fn between_sweeps(&self) -> Duration {
        let options = &self.tools.shared.options;
        let shortest = options.tcp_idle.min(options.tcp_half_closed).min(options.udp_idle);
        (shortest / 4).clamp(SWEEPS.0, SWEEPS.1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}
