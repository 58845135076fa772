//! TCP connections of a thread: accepted, connected to an endpoint, carried, closed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kernel::socket::{Event, Interest, Listener, Origin, Stream, is_exhaustion};
use slab::Slab;

use super::clock::Moment;
use super::endpoint::{EndpointState, Lease};
use super::entrance::{Choice, Entrance};
use super::flow::{Flow, Progress};
use super::proxy_protocol;
use super::token::{Kind, Token, same_generation};
use super::worker::{Command, Shared, Tools};

/// Connections accepted of a door before others have their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// Descriptors of a connection.
const DESCRIPTORS: usize = 2;

/// There was nothing to accept a connection with.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoDescriptors;

/// The connections of a thread.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Slab<Connection>,
    generation: u32,
    /// For each attempt that may be made, when those under way are given up: the earliest first, since all take the
    /// same time.
    attempts: Vec<VecDeque<(Moment, Token)>>,
}

#[derive(Debug)]
struct Connection {
    client: Stream,
    endpoint: Stream,
    /// From the client to the endpoint.
    there: Flow,
    /// From the endpoint to the client.
    back: Flow,
    /// Until it is connected.
    attempt: Option<Box<Attempt>>,
    last: Moment,
    generation: u32,
    lease: Lease,
}

/// A connection on its way to an endpoint.
#[derive(Debug)]
struct Attempt {
    client: SocketAddr,
    /// Counted from 0.
    number: usize,
    tried: Vec<Arc<EndpointState>>,
    proxy_protocol: bool,
}

/// Why there is no connection to any endpoint.
#[derive(Debug)]
enum Unserved {
    /// None took it.
    NoEndpoint,
    /// There was nothing to connect with.
    NoDescriptors(io::Error),
}

impl Unserved {
    fn tell(&self, tools: &mut Tools) {
        match self {
            Self::NoEndpoint => tools.counters.unserved.raise(),
            Self::NoDescriptors(error) => {
                tools.counters.shed_by_descriptors.raise();
                if let Some(times) = tools.shedding.count(tools.now) {
                    tracing::warn!(
                        times,
                        "connections are turned away: {error} (raise the limit of open files)"
                    );
                }
            }
        }
    }
}

impl Connections {
    /// Accepts what waits at a door.
    pub(super) fn accept(
        &mut self,
        entrance: &Arc<Entrance>,
        listener: &Listener,
        tools: &mut Tools,
    ) -> Result<(), NoDescriptors> {
        for _ in 0..ACCEPTED_AT_ONCE {
            match listener.accept() {
                Ok((stream, address)) => match tools.less_busy() {
                    Some(other) => other.tell(Command::Carry(entrance.clone(), stream, address)),
                    None => self.take_in(entrance, stream, address, tools),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_exhaustion(&error) => {
                    tools.counters.shed_by_descriptors.raise();
                    if let Some(times) = tools.shedding.count(tools.now) {
                        tracing::warn!(
                            times,
                            "connections must wait: {error} (raise the limit of open files)"
                        );
                    }
                    return Err(NoDescriptors);
                }
                // That connection failed before it was accepted; the next may not have.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Serves an accepted connection, if the bounds allow it.
    pub(super) fn take_in(
        &mut self,
        entrance: &Arc<Entrance>,
        client: Stream,
        address: SocketAddr,
        tools: &mut Tools,
    ) {
        tools.counters.connections.raise();
        if let Err(bound) = admit(entrance, tools) {
            tools.counters.closed_connections.raise();
            client.reset();
            if let Some(times) = tools.shedding.count(tools.now) {
                tracing::warn!(service = %entrance.key.name, times, "connections are turned away: {bound}");
            }
            return;
        }
        let attempt = Attempt { client: address, number: 0, tried: Vec::new(), proxy_protocol: false };
        self.begin(entrance.clone(), client, attempt, tools);
    }

    /// Begins to connect to an endpoint. If none is left to try, the client is turned away.
    fn begin(&mut self, entrance: Arc<Entrance>, client: Stream, mut attempt: Attempt, tools: &mut Tools) {
        let (stream, choice) = match next_endpoint(&entrance, &mut attempt, tools) {
            Ok(begun) => begun,
            Err(why) => {
                why.tell(tools);
                client.reset();
                return release(tools);
            }
        };
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        attempt.proxy_protocol = choice.proxy_protocol;
        let number = attempt.number;
        let place = self.places.insert(Connection {
            client,
            endpoint: stream,
            there: Flow::default(),
            back: Flow::default(),
            attempt: Some(Box::new(attempt)),
            last: tools.now,
            generation,
            lease: Lease::new(entrance, choice.endpoint),
        });
        self.expect(place, number, tools);
        // It takes no time on this host.
        if self.places.get(place).is_some_and(|connection| connection.endpoint.is_connected()) {
            self.connected(place, tools);
        }
    }

    /// Waits for the outcome of an attempt.
    fn expect(&mut self, place: usize, number: usize, tools: &mut Tools) {
        let Some(connection) = self.places.get(place) else { return };
        let token = Token::new(Kind::Endpoint, place, connection.generation);
        if let Err(error) = tools.poller.add(&connection.endpoint, Interest::Stream, token.to_bits()) {
            tracing::warn!("cannot wait for a connection: {error}");
            return self.abort(place, tools);
        }
        let times = &tools.shared.options.connect_timeouts;
        let time = times.get(number).or(times.last()).copied().unwrap_or(Duration::from_secs(1));
        if self.attempts.len() <= number {
            self.attempts.resize_with(number + 1, VecDeque::new);
        }
        self.attempts[number].push_back((tools.now.after(time), token));
    }

    /// A socket of a connection has news.
    pub(super) fn ready(&mut self, token: Token, event: Event, tools: &mut Tools) {
        let Some(connection) = self.find(token) else { return };
        if connection.attempt.is_some() {
            return self.attempted(token.place(), event, tools);
        }
        connection.last = tools.now;
        let (from, to) = match token.kind {
            Kind::Client => (&mut connection.there, &mut connection.back),
            _ => (&mut connection.back, &mut connection.there),
        };
        from.readable |= event.readable || event.failed;
        from.ending |= event.ended;
        to.writable |= event.writable || event.failed;
        self.carry(token, tools);
    }

    /// Serves a connection that was interrupted.
    pub(super) fn go_on(&mut self, token: Token, tools: &mut Tools) {
        if self.find(token).is_some() {
            self.carry(token, tools);
        }
    }

    fn find(&mut self, token: Token) -> Option<&mut Connection> {
        let connection = self.places.get_mut(token.place())?;
        same_generation(connection.generation, token.generation).then_some(connection)
    }

    /// An attempt succeeded or failed.
    fn attempted(&mut self, place: usize, event: Event, tools: &mut Tools) {
        let Some(connection) = self.places.get_mut(place) else { return };
        if event.failed {
            let error = connection.endpoint.error().ok().flatten();
            let error = error.unwrap_or_else(|| io::Error::from(ErrorKind::ConnectionReset));
            return self.try_another(place, &error, tools);
        }
        if event.writable {
            connection.back.readable = event.readable;
            connection.back.ending = event.ended;
            self.connected(place, tools);
        }
    }

    /// The endpoint took the connection.
    fn connected(&mut self, place: usize, tools: &mut Tools) {
        let Some(connection) = self.places.get_mut(place) else { return };
        let Some(attempt) = connection.attempt.take() else { return };
        connection.lease.endpoint.worked();
        if attempt.proxy_protocol {
            let destination = connection.client.original_destination();
            match destination.and_then(|destination| proxy_protocol::header(attempt.client, destination)) {
                Ok(header) => connection.there = Flow::beginning_with(header, tools),
                Err(error) => {
                    tracing::warn!("cannot tell an endpoint who its client is: {error}");
                    return self.abort(place, tools);
                }
            }
        }
        connection.there.writable = true;
        connection.back.writable = true;
        // Most clients have spoken by now. What comes after this is told when the poller is asked.
        connection.there.readable = true;
        let token = Token::new(Kind::Client, place, connection.generation);
        self.carry(token, tools);
        let Some(connection) = self.find(token) else { return };
        if let Err(error) = tools.poller.add(&connection.client, Interest::Stream, token.to_bits()) {
            tracing::warn!("cannot wait for a client: {error}");
            self.abort(place, tools);
        }
    }

    /// The endpoint did not take the connection: another may. Nothing of the client was received yet.
    fn try_another(&mut self, place: usize, error: &io::Error, tools: &mut Tools) {
        let connection = self.places.remove(place);
        let Connection { client, attempt, lease, .. } = connection;
        let Some(attempt) = attempt else { return };
        let mut attempt = *attempt;
        tools.set_aside(&lease, error);
        attempt.tried.push(lease.endpoint.clone());
        attempt.number += 1;
        // If each was tried, the slow ones may still answer.
        if error.kind() == ErrorKind::TimedOut && attempt.tried.len() >= lease.entrance.count() {
            attempt.tried.clear();
        }
        let entrance = lease.entrance.clone();
        drop(lease);
        self.begin(entrance, client, attempt, tools);
    }

    /// Moves bytes in both directions, and closes the connection when that is over.
    fn carry(&mut self, token: Token, tools: &mut Tools) {
        let place = token.place();
        let Some(Connection { client, endpoint, there, back, .. }) = self.places.get_mut(place) else {
            return;
        };
        // Answers first: if the endpoint has gone, its last words are to be passed on.
        let answers = back.pump(endpoint, client, there.finished, |counters| &counters.bytes_out, tools);
        let requests = match answers {
            Progress::SourceFailed | Progress::SinkFailed => Progress::Waiting,
            _ => there.pump(client, endpoint, back.finished, |counters| &counters.bytes_in, tools),
        };
        match (answers, requests) {
            (Progress::SourceFailed | Progress::SinkFailed, _) | (_, Progress::SourceFailed) => {
                return self.abort(place, tools);
            }
            // Answers may still be on their way.
            (_, Progress::SinkFailed) => there.abandon(tools),
            _ => {}
        }
        if there.finished && back.finished {
            self.close(place, tools);
        } else if answers == Progress::Interrupted || requests == Progress::Interrupted {
            tools.again.push(token);
        }
    }

    /// Closes a connection that is over.
    fn close(&mut self, place: usize, tools: &mut Tools) {
        drop(self.take_out(place, tools));
    }

    /// Removes a connection, and gives back what it took.
    fn take_out(&mut self, place: usize, tools: &mut Tools) -> Connection {
        let mut connection = self.places.remove(place);
        connection.there.drop_held(tools);
        connection.back.drop_held(tools);
        release(tools);
        connection
    }

    /// Closes a connection so that both sides see that it failed.
    fn abort(&mut self, place: usize, tools: &mut Tools) {
        let connection = self.take_out(place, tools);
        connection.client.reset();
        connection.endpoint.reset();
    }

    /// When the next attempt is given up, if any is under way.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.attempts.iter().filter_map(|queue| queue.front()).map(|(deadline, _)| *deadline).min()
    }

    /// Gives up attempts that took too long.
    pub(super) fn give_up_slow_attempts(&mut self, tools: &mut Tools) {
        for number in 0..self.attempts.len() {
            while let Some((deadline, token)) = self.attempts[number].front().copied() {
                let under_way = self.find(token).is_some_and(|connection| connection.attempt.is_some());
                if under_way && deadline > tools.now {
                    break;
                }
                self.attempts[number].pop_front();
                if under_way {
                    let error = io::Error::new(ErrorKind::TimedOut, "it did not answer in time");
                    self.try_another(token.place(), &error, tools);
                }
            }
        }
    }

    /// Closes connections without traffic.
    pub(super) fn close_idle(&mut self, tools: &mut Tools) {
        let options = &tools.shared.options;
        let is_idle = |connection: &Connection| {
            let half_closed = connection.there.ended || connection.back.ended;
            let limit = if half_closed { options.tcp_half_closed } else { options.tcp_idle };
            connection.attempt.is_none() && tools.now.since(connection.last) >= limit
        };
        let idle: Vec<_> = self
            .places
            .iter()
            .filter(|(_, connection)| is_idle(connection))
            .map(|(place, _)| place)
            .collect();
        idle.into_iter().for_each(|place| self.abort(place, tools));
    }
}

/// Begins to connect to the next endpoint that can be connected to at all.
fn next_endpoint(
    entrance: &Arc<Entrance>,
    attempt: &mut Attempt,
    tools: &mut Tools,
) -> Result<(Stream, Choice), Unserved> {
    let (balancing, attempts) =
        (tools.shared.options.balancing, tools.shared.options.connect_timeouts.len().max(1));
    while attempt.number < attempts {
        let choice = entrance.choose(attempt.client.ip(), &attempt.tried, balancing, tools.now);
        let choice = choice.ok_or(Unserved::NoEndpoint)?;
        match connect(&choice, attempt.client, tools) {
            Ok(stream) => return Ok((stream, choice)),
            Err(error) if is_exhaustion(&error) => return Err(Unserved::NoDescriptors(error)),
            Err(error) => {
                let lease = Lease::new(entrance.clone(), choice.endpoint);
                tools.set_aside(&lease, &error);
                attempt.tried.push(lease.endpoint.clone());
                attempt.number += 1;
            }
        }
    }
    Err(Unserved::NoEndpoint)
}

/// Begins to connect, under the client's address if that is wanted and possible.
fn connect(choice: &Choice, client: SocketAddr, tools: &mut Tools) -> io::Result<Stream> {
    let peer = choice.endpoint.address();
    if choice.as_client {
        match Stream::connect(peer, &tools.shared.options.origin_of(client)) {
            Ok(stream) => return Ok(stream),
            Err(error) if tools.shared.options.as_client_or_not_at_all => return Err(error),
            Err(error) => tracing::debug!(%client, %peer, "cannot bear the client's address: {error}"),
        }
    }
    Stream::connect(peer, &Origin::default())
}

/// Takes what a connection needs of the bounds, or says which does not allow it.
fn admit(entrance: &Entrance, tools: &mut Tools) -> Result<(), &'static str> {
    let Shared { options, bounds, .. } = &*tools.shared;
    if options.max_connections_per_target.is_some_and(|most| entrance.active() >= most.get()) {
        tools.counters.shed_by_bound.raise();
        return Err("this service port has as many as it may (--userspace-max-connections-per-service)");
    }
    if !bounds.connections.take(1) {
        tools.counters.shed_by_bound.raise();
        return Err("there are as many as there may be (--userspace-max-connections)");
    }
    if !bounds.descriptors.take(DESCRIPTORS) {
        bounds.connections.give_back(1);
        tools.counters.shed_by_descriptors.raise();
        return Err("there are no file descriptors left (raise the limit of open files)");
    }
    tools.count_connection();
    Ok(())
}

/// Gives back what a connection took.
fn release(tools: &mut Tools) {
    tools.counters.closed_connections.raise();
    tools.discount_connection();
    tools.shared.bounds.connections.give_back(1);
    tools.shared.bounds.descriptors.give_back(DESCRIPTORS);
}
