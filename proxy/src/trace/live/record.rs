//! Puts together what the kernel tells of packets and connections. Pure: time is what the caller says, counted from the
//! start.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use kernel::conntrack::{FlowChange, FlowEvent, Tuple};
use kernel::follow::News;
use kernel::nft::{Met, Table, TraceStep, Verdict};

use super::filter::Filter;

/// A packet of which nothing more is heard for so long has come to its end.
const QUIET: Duration = Duration::from_millis(250);
/// An endpoint that has not answered after so long is told of.
const PATIENCE: Duration = Duration::from_secs(1);
/// Steps kept of a packet. Rulesets of others can be as long as they like.
const MOST_STEPS: usize = 500;

/// What happened, to be told. Connections bear numbers, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A connection's first packet went all its way.
    Connection(Connection),
    /// A connection was answered, or is in another state.
    Changed { number: usize, after: Duration, answered: bool, state: Option<&'static str> },
    /// A connection was not answered for so long.
    Unanswered { number: usize, after: Duration, endpoint: SocketAddr },
    /// Connection tracking has forgotten a connection.
    Ended { number: usize, after: Duration, answered: bool },
    /// The kernel had to drop some news.
    Lost,
}

/// A connection's first packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Connection {
    pub(super) number: usize,
    pub(super) at: Duration,
    pub(super) original: Tuple,
    /// What it met, and when, from its first step.
    pub(super) steps: Vec<(Duration, TraceStep)>,
    pub(super) fate: Fate,
}

/// What became of a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It left the node's rules; this is how answers come.
    Left { reply: Tuple },
    /// A rule or a policy dropped it, maybe with an error as an answer.
    Dropped,
    /// The rules let it pass, to where it was addressed last, and no entry was made for it.
    Untracked { last: Tuple },
}

/// A packet that is on its way.
struct Packet {
    began: Duration,
    heard: Duration,
    first: Tuple,
    last: Tuple,
    steps: Vec<(Duration, TraceStep)>,
    dropped: bool,
}

/// A connection that was told of.
struct Flow {
    number: usize,
    began: Duration,
    /// Who is to answer; `None` of a connection that never came about.
    endpoint: Option<SocketAddr>,
    answered: bool,
    /// Whether it was told that there is no answer.
    missed: bool,
    state: Option<&'static str>,
}

impl Flow {
    fn is_settled(&self) -> bool {
        self.endpoint.is_none() || self.answered || self.missed
    }
}

/// What is known so far.
pub(super) struct Record {
    filter: Filter,
    most: usize,
    /// The table that has packets traced.
    own: Option<Table>,
    packets: HashMap<u32, Packet>,
    flows: HashMap<Tuple, Flow>,
    connections: usize,
    events: VecDeque<Event>,
}

impl Record {
    /// Of at most so many connections.
    pub(super) fn new(filter: Filter, most: usize, own: Option<Table>) -> Self {
        let (packets, flows) = (HashMap::new(), HashMap::new());
        Self { filter, most, own, packets, flows, connections: 0, events: VecDeque::new() }
    }

    /// Connections told of so far.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// What is to be told next.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there are as many connections as are wanted, so that no packet need be traced.
    pub(super) fn needs_no_hops(&self) -> bool {
        self.packets.is_empty() && self.connections >= self.most
    }

    /// Whether there are as many connections as are wanted, and it is known of each whether it is answered.
    pub(super) fn is_complete(&self) -> bool {
        self.needs_no_hops() && self.flows.values().all(Flow::is_settled)
    }

    /// When [`Record::tick`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let quiet = self.packets.values().map(|packet| packet.heard + QUIET);
        let waiting = self.flows.values().filter(|flow| !flow.is_settled()).map(|flow| flow.began + PATIENCE);
        quiet.chain(waiting).min()
    }

    /// Takes in what the kernel told.
    pub(super) fn take(&mut self, now: Duration, news: News) {
        match news {
            News::Step(step) => self.take_step(now, step),
            News::Flow(event) => match event.change {
                FlowChange::New => self.begin(now, &event),
                FlowChange::Updated => self.change(now, &event),
                FlowChange::Ended => self.end(now, &event),
            },
            News::Lost => self.events.push_back(Event::Lost),
        }
    }

    /// Notices what did not happen.
    pub(super) fn tick(&mut self, now: Duration) {
        self.conclude(|packet| packet.heard + QUIET <= now);
        for flow in self.flows.values_mut().filter(|flow| flow.began + PATIENCE <= now) {
            if let Some(endpoint) = flow.endpoint.filter(|_| !flow.is_settled()) {
                flow.missed = true;
                let (number, after) = (flow.number, now - flow.began);
                self.events.push_back(Event::Unanswered { number, after, endpoint });
            }
        }
    }

    /// Tells what is left to tell.
    pub(super) fn close(&mut self, now: Duration) {
        self.tick(now);
        self.conclude(|_| true);
    }

    fn take_step(&mut self, now: Duration, step: TraceStep) {
        let ours = self.own.as_ref() == Some(&step.table);
        let Some(packet) = self.packets.get_mut(&step.id) else {
            // Packets that others have traced never meet our rule.
            if ours && matches!(step.met, Met::Rule { .. }) {
                self.meet(now, &step);
            }
            return;
        };
        packet.heard = now;
        packet.last = step.addresses.unwrap_or(packet.last);
        packet.dropped = matches!(
            step.met,
            Met::Rule { verdict: Some(Verdict::Drop), .. } | Met::Policy { accept: false }
        );
        let (id, dropped) = (step.id, packet.dropped);
        if !ours && packet.steps.len() < MOST_STEPS {
            packet.steps.push((now - packet.began, step));
        }
        if dropped {
            self.conclude_one(id);
        }
    }

    /// Begins with a packet that our rule has traced, unless it is one that is sent again.
    fn meet(&mut self, now: Duration, step: &TraceStep) {
        let Some(first) = step.addresses else { return };
        let room = self.connections + self.packets.len() < self.most;
        if room && self.filter.matches(&first) && !self.flows.contains_key(&first) {
            let packet =
                Packet { began: now, heard: now, first, last: first, steps: Vec::new(), dropped: false };
            self.packets.insert(step.id, packet);
        }
    }

    fn conclude(&mut self, which: impl Fn(&Packet) -> bool) {
        let mut due: Vec<_> = self.packets.iter().filter(|(_, packet)| which(packet)).collect();
        due.sort_by_key(|(_, packet)| packet.began);
        let due: Vec<u32> = due.into_iter().map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.conclude_one(id));
    }

    /// A packet that connection tracking says nothing of.
    fn conclude_one(&mut self, id: u32) {
        if let Some(packet) = self.packets.remove(&id) {
            let fate = if packet.dropped { Fate::Dropped } else { Fate::Untracked { last: packet.last } };
            self.tell(packet.first, (packet.began, packet.steps), fate);
        }
    }

    fn tell(&mut self, original: Tuple, (at, steps): (Duration, Vec<(Duration, TraceStep)>), fate: Fate) {
        self.connections += 1;
        let number = self.connections;
        let endpoint = match fate {
            Fate::Left { reply } => Some(reply.source),
            Fate::Dropped | Fate::Untracked { .. } => None,
        };
        let flow = Flow { number, began: at, endpoint, answered: false, missed: false, state: None };
        self.flows.insert(original, flow);
        self.events.push_back(Event::Connection(Connection { number, at, original, steps, fate }));
    }

    /// An entry is made when a packet leaves: all its steps are known.
    fn begin(&mut self, now: Duration, event: &FlowEvent) {
        let original = event.original;
        if !self.filter.matches(&original) {
            return;
        }
        let id = self.packets.iter().find(|(_, packet)| packet.first == original).map(|(id, _)| *id);
        let packet = id.and_then(|id| self.packets.remove(&id));
        if packet.is_none() && self.connections + self.packets.len() >= self.most {
            return;
        }
        let told = packet.map_or_else(|| (now, Vec::new()), |packet| (packet.began, packet.steps));
        self.tell(original, told, Fate::Left { reply: event.reply });
        if let Some(flow) = self.flows.get_mut(&original) {
            flow.state = event.state;
        }
    }

    fn change(&mut self, now: Duration, event: &FlowEvent) {
        let Some(flow) = self.flows.get_mut(&event.original) else { return };
        let answered = event.answered == Some(true) && !flow.answered;
        let state = event.state.filter(|state| flow.state != Some(state));
        flow.answered |= answered;
        flow.state = state.or(flow.state);
        if answered || state.is_some() {
            let (number, after) = (flow.number, now.saturating_sub(flow.began));
            self.events.push_back(Event::Changed { number, after, answered, state });
        }
    }

    fn end(&mut self, now: Duration, event: &FlowEvent) {
        if let Some(flow) = self.flows.remove(&event.original) {
            let after = now.saturating_sub(flow.began);
            self.events.push_back(Event::Ended { number: flow.number, after, answered: flow.answered });
        }
    }
}

#[cfg(test)]
mod tests;
