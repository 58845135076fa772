//! UDP sessions of a thread: a client's datagrams to a target go to one endpoint, and its answers back.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use kernel::socket::{Batch, Datagrams, Interest, Origin};
use slab::Slab;

use super::clock::Moment;
use super::endpoint::{EndpointState, Lease};
use super::entrance::{Door, EntranceId, Opened};
use super::token::{Kind, Token, same_generation};
use super::worker::Tools;

/// Batches taken of a socket before others have their turn.
const BATCHES: usize = 4;
/// Sessions looked at to find one that may end early.
const CANDIDATES: usize = 16;
/// Endpoints that a datagram is sent to at most, one after the other, as they turn out to be gone.
const TRIES: usize = 3;

/// The sessions of a thread.
#[derive(Debug)]
pub(super) struct Sessions {
    places: Slab<Session>,
    clients: HashMap<(EntranceId, SocketAddr), usize>,
    generation: u32,
    batch: Batch,
}

#[derive(Debug)]
struct Session {
    socket: Datagrams,
    /// Where its client's datagrams come in, and answers go out.
    door: Arc<Door>,
    client: SocketAddr,
    last: Moment,
    generation: u32,
    lease: Lease,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { places: Slab::new(), clients: HashMap::new(), generation: 0, batch: Batch::new() }
    }
}

impl Sessions {
    /// Takes the datagrams that wait at a door.
    pub(super) fn receive(&mut self, opened: &Opened, tools: &mut Tools) {
        let Door::Udp(sockets) = &*opened.door else { return };
        let socket = tools.own(sockets);
        let mut batch = std::mem::take(&mut self.batch);
        for _ in 0..BATCHES {
            // On a socket without a peer nothing can fail that has to do with what was received.
            if batch.receive(socket).is_err() {
                break;
            }
            for (datagram, client) in batch.datagrams() {
                if client.is_none_or(|client| !self.pass_on(opened, client, datagram, tools)) {
                    tools.counters.datagrams_dropped.raise();
                }
            }
            if !batch.is_full() {
                break;
            }
        }
        self.batch = batch;
    }

    /// Sends a client's datagram to the endpoint of its session. False when it could not be sent.
    fn pass_on(&mut self, opened: &Opened, client: SocketAddr, datagram: &[u8], tools: &mut Tools) -> bool {
        let mut tried = Vec::new();
        for _ in 0..TRIES {
            let Some(place) = self.session(opened, client, &tried, tools) else { return false };
            let session = &mut self.places[place];
            session.last = tools.now;
            match session.socket.send(datagram) {
                Ok(()) => {
                    tools.counters.bytes_in.add(datagram.len());
                    return true;
                }
                // No room, or too long: that is no fault of the endpoint.
                Err(error) if !is_unreachable(&error) => return false,
                // It tells of an earlier datagram; this one was not sent.
                Err(error) => tried.push(self.fail(place, &error, tools)),
            }
        }
        false
    }

    /// The session of a client, which is begun if there is none.
    fn session(
        &mut self,
        opened: &Opened,
        client: SocketAddr,
        tried: &[Arc<EndpointState>],
        tools: &mut Tools,
    ) -> Option<usize> {
        if let Some(place) = self.clients.get(&(opened.entrance.id, client)).copied() {
            // The datagram may overtake the word that its endpoint has gone.
            if !self.places[place].lease.endpoint.is_gone() {
                return Some(place);
            }
            self.end(place, tools);
        }
        if !self.make_room(tools) {
            return None;
        }
        let begun = self.begin(opened, client, tried, tools);
        if begun.is_none() {
            tools.shared.bounds.descriptors.give_back(1);
        }
        begun
    }

    fn begin(
        &mut self,
        opened: &Opened,
        client: SocketAddr,
        tried: &[Arc<EndpointState>],
        tools: &mut Tools,
    ) -> Option<usize> {
        let Opened { entrance, door } = opened;
        let choice = entrance.choose(client.ip(), tried, tools.shared.options.balancing, tools.now)?;
        let peer = choice.endpoint.address();
        let options = &tools.shared.options;
        let as_client = choice.as_client.then(|| Datagrams::connect(peer, &options.origin_of(client)));
        let socket = match as_client {
            Some(result) if result.is_ok() || options.as_client_or_not_at_all => result,
            _ => Datagrams::connect(peer, &Origin::default()),
        };
        let socket =
            socket.inspect_err(|error| tracing::debug!(%peer, "cannot begin a session: {error}")).ok()?;
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let slot = self.places.vacant_entry();
        let token = Token::new(Kind::Session, slot.key(), generation);
        tools.poller.add(&socket, Interest::Readable, token.to_bits()).ok()?;
        let place = slot.key();
        let lease = Lease::new(entrance.clone(), choice.endpoint);
        slot.insert(Session { socket, door: door.clone(), client, last: tools.now, generation, lease });
        self.clients.insert((entrance.id, client), place);
        tools.counters.sessions.raise();
        Some(place)
    }

    /// Takes what a session needs of the bounds, of another session if there is no other way.
    fn make_room(&mut self, tools: &mut Tools) -> bool {
        let bounds = &tools.shared.bounds;
        if self.places.len() < bounds.sessions_each && bounds.descriptors.take(1) {
            return true;
        }
        let places = self.places.capacity().max(1);
        let start = fastrand::usize(..places);
        let candidates = (start..places).chain(0..start);
        let candidates = candidates.filter_map(|place| Some((place, self.places.get(place)?.last)));
        let candidates = candidates.take(CANDIDATES);
        let Some((place, _)) = candidates.min_by_key(|(_, last)| *last) else { return false };
        tools.counters.sessions_evicted.raise();
        self.end(place, tools);
        tools.shared.bounds.descriptors.take(1)
    }

    /// An endpoint has answered, or the system tells that it cannot be reached.
    pub(super) fn answered(&mut self, token: Token, tools: &mut Tools) {
        let place = token.place();
        let Some(session) = self.places.get_mut(place) else { return };
        if !same_generation(session.generation, token.generation) {
            return;
        }
        session.last = tools.now;
        let Door::Udp(sockets) = &*session.door else { return };
        let door = tools.own(sockets);
        for _ in 0..BATCHES {
            match self.batch.receive(&session.socket) {
                Ok(count) => {
                    session.lease.endpoint.worked();
                    let bytes: usize = self.batch.datagrams().map(|(datagram, _)| datagram.len()).sum();
                    tools.counters.bytes_out.add(bytes);
                    let sent = self.batch.pass_on(door, session.client).unwrap_or(0);
                    tools.counters.datagrams_dropped.add(count.saturating_sub(sent));
                    if !self.batch.is_full() {
                        return;
                    }
                }
                Err(error) if is_unreachable(&error) => {
                    self.fail(place, &error, tools);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Ends a session whose endpoint is not there, and sets that aside.
    fn fail(&mut self, place: usize, error: &io::Error, tools: &mut Tools) -> Arc<EndpointState> {
        let lease = &self.places[place].lease;
        let endpoint = lease.endpoint.clone();
        tools.set_aside(lease, error);
        self.end(place, tools);
        endpoint
    }

    fn end(&mut self, place: usize, tools: &mut Tools) {
        let session = self.places.remove(place);
        self.clients.remove(&(session.lease.entrance.id, session.client));
        tools.counters.closed_sessions.raise();
        tools.shared.bounds.descriptors.give_back(1);
    }

    /// Ends sessions of a target.
    pub(super) fn end_all(&mut self, id: EntranceId, tools: &mut Tools) {
        self.end_those(|session| session.lease.entrance.id == id, tools);
    }

    /// Ends sessions of a target whose endpoint is one no longer.
    pub(super) fn end_those_to_gone_endpoints(&mut self, id: EntranceId, tools: &mut Tools) {
        let gone = |session: &Session| session.lease.entrance.id == id && session.lease.endpoint.is_gone();
        self.end_those(gone, tools);
    }

    /// Ends sessions without datagrams.
    pub(super) fn end_idle(&mut self, tools: &mut Tools) {
        let (now, limit) = (tools.now, tools.shared.options.udp_idle);
        self.end_those(|session| now.since(session.last) >= limit, tools);
    }

    fn end_those(&mut self, which: impl Fn(&Session) -> bool, tools: &mut Tools) {
        let those = self.places.iter().filter(|(_, session)| which(session)).map(|(place, _)| place);
        let those: Vec<_> = those.collect();
        those.into_iter().for_each(|place| self.end(place, tools));
    }
}

/// Whether an endpoint is not there, as ICMP or the routing table tells.
fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}
