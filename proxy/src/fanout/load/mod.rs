//! Opening connections, as many at a time as asked for, from one thread. Each ends as a number in the [`Tally`].

mod connection;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kernel::socket::{Event, Events, Interest, Poller};
use slab::Slab;

use self::connection::{Connection, Heard, Stage};
use super::failure::Cause;
use super::socket::Path;
use super::tally::{Tally, Who};
use super::teller::{Teller, Told};

/// How often somebody may look how it goes.
const GLANCE: Duration = Duration::from_millis(100);
/// So many connections in a row that never leave this host, beyond those that may be under way: no more will.
const HOPELESS: usize = 100;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) path: Path,
    pub(super) amount: Amount,
    pub(super) concurrency: usize,
    /// Addresses to connect from, in turn; whatever the kernel chooses if there are none.
    pub(super) sources: Vec<IpAddr>,
    pub(super) timeout: Duration,
    pub(super) kept_alive: bool,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Connections, or requests over kept ones.
    Count(u64),
    /// As many as fit.
    Time(Duration),
}

/// Sees how it goes after so long, and says whether to go on.
pub(super) type Glance<'a> = &'a mut dyn FnMut(&Tally, Duration) -> bool;

/// What is under way.
struct Run<'a> {
    load: &'a Load,
    teller: &'a mut Teller,
    tally: Tally,
    poller: Poller,
    connections: Slab<Connection>,
    /// When what connections wait for must have come, soonest first; with their places, and the number of the wait.
    deadlines: VecDeque<(Instant, usize, u64)>,
    waits: u64,
    began: Instant,
    stopped: bool,
    /// Connections that never left this host, in a row.
    hopeless: usize,
}

impl Load {
    /// Does it.
    pub(super) fn run(&self, teller: &mut Teller, glance: Glance<'_>) -> anyhow::Result<Tally> {
        let mut run = Run {
            load: self,
            teller,
            tally: Tally::new()?,
            poller: Poller::new()?,
            connections: Slab::new(),
            deadlines: VecDeque::new(),
            waits: 0,
            began: Instant::now(),
            stopped: false,
            hopeless: 0,
        };
        run.finish(glance)?;
        run.tally.took = run.began.elapsed();
        Ok(run.tally)
    }

    /// How many connections there may be at once.
    fn most(&self) -> usize {
        match self.amount {
            Amount::Count(count) => self.concurrency.min(usize::try_from(count).unwrap_or(usize::MAX)),
            Amount::Time(_) => self.concurrency,
        }
    }
}

impl Run<'_> {
    fn finish(&mut self, glance: Glance<'_>) -> anyhow::Result<()> {
        let (mut events, mut next_glance, most) = (Events::default(), self.began + GLANCE, self.load.most());
        loop {
            for _ in self.connections.len()..most {
                if self.is_due() {
                    self.begin();
                }
            }
            let is_due = self.is_due();
            if self.connections.is_empty() && !is_due {
                return Ok(());
            }
            let now = Instant::now();
            if now >= next_glance {
                next_glance = now + GLANCE;
                self.stopped |= !glance(&self.tally, now - self.began);
            }
            let until = self.deadlines.front().map_or(next_glance, |(at, ..)| next_glance.min(*at));
            let until = if is_due && self.connections.len() < most { now } else { until };
            self.poller.wait(&mut events, Some(until.saturating_duration_since(now)))?;
            for event in (0..events.len()).filter_map(|index| events.get(index)) {
                self.go_on(event)?;
            }
            self.expire()?;
        }
    }

    /// Whether there is more to begin, or to ask.
    fn is_due(&self) -> bool {
        let done = if self.load.kept_alive { self.tally.asked + self.tally.failed } else { self.tally.begun };
        !self.stopped
            && match self.load.amount {
                Amount::Time(time) => self.began.elapsed() < time,
                Amount::Count(count) => done < count,
            }
    }

    fn begin(&mut self) {
        let sources = &self.load.sources;
        let turn = usize::try_from(self.tally.begun).unwrap_or_default().checked_rem(sources.len());
        let source = turn.and_then(|turn| sources.get(turn)).copied();
        self.tally.begun += 1;
        self.waits += 1;
        let begun = self.load.path.begin(source).and_then(|(socket, local)| {
            let mut connection = Connection::new(socket, local, self.waits);
            if self.load.path.udp {
                connection.stage = Stage::Greeting;
                connection.ask()?;
            }
            let place = self.connections.vacant_entry();
            self.poller.add(&connection.socket, Interest::Stream, place.key() as u64)?;
            self.deadlines.push_back((connection.since + self.load.timeout, place.key(), self.waits));
            place.insert(connection);
            Ok(())
        });
        match begun {
            Ok(()) => self.hopeless = 0,
            Err(error) => self.never_left(Cause::of(&error)),
        }
    }

    fn never_left(&mut self, cause: Cause) {
        self.tally.failed(self.began.elapsed(), cause, None);
        self.hopeless = if cause.is_local() { self.hopeless + 1 } else { 0 };
        if self.hopeless > HOPELESS + self.load.concurrency {
            self.stopped = true;
            self.tally.given_up = Some(cause);
        }
    }

    fn go_on(&mut self, event: Event) -> anyhow::Result<()> {
        let place = usize::try_from(event.token)?;
        let Some(connection) = self.connections.get(place) else { return Ok(()) };
        if connection.stage == Stage::Connecting {
            if let Some(cause) = connection.refusal(event) {
                return self.fail(place, cause);
            }
            if !event.writable {
                return Ok(());
            }
            self.connected(place)?;
        }
        self.listen(place)
    }

    fn connected(&mut self, place: usize) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(place) else { return Ok(()) };
        self.tally.connected(connection.since.elapsed());
        connection.stage = Stage::Greeting;
        if self.teller.told() == Told::Conntrack {
            connection.endpoint =
                endpoint_of(self.teller, &mut self.tally, &self.load.path, connection.local)?;
            if !self.load.kept_alive {
                let connection = self.connections.remove(place);
                self.tally.answered(self.began.elapsed(), connection.local.ip(), connection.endpoint);
            }
        }
        Ok(())
    }

    fn listen(&mut self, place: usize) -> anyhow::Result<()> {
        while let Some(connection) = self.connections.get_mut(place) {
            match connection.listen(self.load.path.udp) {
                Heard::Nothing => return Ok(()),
                Heard::End(cause) => return self.fail(place, cause),
                Heard::Line => self.hear(place)?,
            }
        }
        Ok(())
    }

    /// A line is whole.
    fn hear(&mut self, place: usize) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(place) else { return Ok(()) };
        if connection.stage == Stage::Greeting {
            let took = connection.since.elapsed();
            if self.load.path.udp {
                self.tally.connected(took);
            }
            self.tally.said(took);
            if self.teller.told() == Told::Responder {
                connection.endpoint = Who::said(&connection.line).and_then(|who| self.tally.number(who));
            } else if connection.endpoint.is_none() {
                connection.endpoint =
                    endpoint_of(self.teller, &mut self.tally, &self.load.path, connection.local)?;
            }
            self.tally.answered(self.began.elapsed(), connection.local.ip(), connection.endpoint);
        } else {
            self.tally.replied(connection.asked.elapsed(), connection.endpoint);
        }
        self.ask_on(place)
    }

    /// Asks over a kept connection; any other is over.
    fn ask_on(&mut self, place: usize) -> anyhow::Result<()> {
        if !(self.load.kept_alive && self.is_due()) {
            self.connections.remove(place);
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(place) else { return Ok(()) };
        self.waits += 1;
        self.tally.asked += 1;
        (connection.stage, connection.serial) = (Stage::Asking, self.waits);
        self.deadlines.push_back((Instant::now() + self.load.timeout, place, self.waits));
        match connection.ask() {
            Ok(()) => Ok(()),
            Err(error) => self.fail(place, Cause::of(&error)),
        }
    }

    fn fail(&mut self, place: usize, cause: Cause) -> anyhow::Result<()> {
        let connection = self.connections.remove(place);
        let at = self.began.elapsed();
        if connection.stage == Stage::Asking {
            self.tally.lost(at, cause, connection.endpoint);
            return Ok(());
        }
        let endpoint = match connection.endpoint {
            None if !cause.is_local() => {
                endpoint_of(self.teller, &mut self.tally, &self.load.path, connection.local)?
            }
            known => known,
        };
        self.tally.failed(at, cause, endpoint);
        Ok(())
    }

    fn expire(&mut self) -> anyhow::Result<()> {
        while let Some((at, place, wait)) = self.deadlines.front().copied() {
            let connection = self.connections.get(place).filter(|connection| connection.serial == wait);
            let cause = match connection {
                Some(_) if at > Instant::now() => return Ok(()),
                Some(connection) => Some(connection.overdue(self.load.path.udp)),
                None => None,
            };
            self.deadlines.pop_front();
            if let Some(cause) = cause {
                self.fail(place, cause)?;
            }
        }
        Ok(())
    }
}

/// The number of the endpoint that the kernel leads a connection to.
fn endpoint_of(
    teller: &mut Teller,
    tally: &mut Tally,
    path: &Path,
    local: SocketAddr,
) -> anyhow::Result<Option<usize>> {
    Ok(teller.of(path, local)?.and_then(|who| tally.number(who)))
}
