//! What became of every connection: each is counted once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use super::failure::Cause;
use super::timeline::Timeline;

/// Endpoints that are told apart. Servers say what they like; what else they say counts as one of nobody's.
const MOST_ENDPOINTS: usize = 10_000;
/// The longest time that is told apart from longer ones, nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Who {
    /// Where, if that is known.
    pub(super) address: Option<SocketAddr>,
    /// What it calls itself, if it does.
    pub(super) name: Option<String>,
}

/// What an endpoint did.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) who: Who,
    /// Connections that it answered.
    pub(super) connections: u64,
    /// Requests over kept connections that it answered.
    pub(super) requests: u64,
    /// Connections that were sent to it, and failed.
    pub(super) failures: u64,
    /// How many connections had been answered by anybody when it first did, and when that was.
    pub(super) first: (u64, Duration),
    /// The same when it last did.
    pub(super) last: (u64, Duration),
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Connections: those that were answered, those that failed, and those under way.
    pub(super) begun: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// Requests over kept connections, alike.
    pub(super) asked: u64,
    pub(super) replied: u64,
    pub(super) lost: u64,
    /// Answered by somebody whom nothing tells.
    pub(super) by_nobody: u64,
    pub(super) shares: Vec<Share>,
    numbers: HashMap<Who, usize>,
    /// Connections by client, and in it by endpoint.
    pub(super) clients: BTreeMap<IpAddr, BTreeMap<usize, u64>>,
    /// Of connections and of requests.
    pub(super) failures: BTreeMap<Cause, u64>,
    /// Nanoseconds until connections were there; over UDP, until the first answer.
    pub(super) connecting: Histogram<u64>,
    /// Nanoseconds until something was said: the greeting, counted from the attempt to connect, or a request's reply.
    pub(super) answering: Histogram<u64>,
    pub(super) timeline: Timeline,
    /// How long it took.
    pub(super) took: Duration,
    /// Why it was given up before its end.
    pub(super) given_up: Option<Cause>,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).context("cannot make a histogram");
        Ok(Self {
            begun: 0,
            answered: 0,
            failed: 0,
            asked: 0,
            replied: 0,
            lost: 0,
            by_nobody: 0,
            shares: Vec::new(),
            numbers: HashMap::new(),
            clients: BTreeMap::new(),
            failures: BTreeMap::new(),
            connecting: histogram()?,
            answering: histogram()?,
            timeline: Timeline::default(),
            took: Duration::ZERO,
            given_up: None,
        })
    }

    /// The number of an endpoint; none if there are too many.
    pub(super) fn number(&mut self, who: Who) -> Option<usize> {
        if let Some(number) = self.numbers.get(&who) {
            return Some(*number);
        }
        let number = self.shares.len();
        if number >= MOST_ENDPOINTS {
            return None;
        }
        self.shares.push(Share { who: who.clone(), ..Share::default() });
        self.numbers.insert(who, number);
        Some(number)
    }

    /// A connection is there.
    pub(super) fn connected(&mut self, took: Duration) {
        self.connecting.saturating_record(nanoseconds(took));
    }

    /// A client's connection was answered, so long after the beginning.
    pub(super) fn answered(&mut self, at: Duration, client: IpAddr, endpoint: Option<usize>) {
        self.answered += 1;
        let Some((number, share)) = endpoint.and_then(|number| Some((number, self.shares.get_mut(number)?)))
        else {
            self.by_nobody += 1;
            return;
        };
        share.last = (self.answered, at);
        if share.connections == 0 {
            share.first = share.last;
        }
        share.connections += 1;
        *self.clients.entry(client).or_default().entry(number).or_default() += 1;
        self.timeline.answered(at, number);
    }

    /// Something was said.
    pub(super) fn said(&mut self, took: Duration) {
        self.answering.saturating_record(nanoseconds(took));
    }

    /// A request was answered.
    pub(super) fn replied(&mut self, took: Duration, endpoint: Option<usize>) {
        self.said(took);
        self.replied += 1;
        if let Some(share) = endpoint.and_then(|number| self.shares.get_mut(number)) {
            share.requests += 1;
        }
    }

    /// A connection failed, so long after the beginning; on its way to an endpoint, if that is known.
    pub(super) fn failed(&mut self, at: Duration, cause: Cause, endpoint: Option<usize>) {
        self.failed += 1;
        self.blame(at, cause, endpoint);
    }

    /// A connection broke after it was answered, and with it a request.
    pub(super) fn lost(&mut self, at: Duration, cause: Cause, endpoint: Option<usize>) {
        self.lost += 1;
        self.blame(at, cause, endpoint);
    }

    fn blame(&mut self, at: Duration, cause: Cause, endpoint: Option<usize>) {
        *self.failures.entry(cause).or_default() += 1;
        self.timeline.failed(at);
        if let Some(share) = endpoint.and_then(|number| self.shares.get_mut(number)) {
            share.failures += 1;
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Who {
    /// Whom a line tells of: `ADDRESS:PORT NAME`, as `pointsman respond` says, or any line that begins with a name.
    pub(super) fn said(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace();
        let first = words.next()?;
        Some(match first.parse() {
            Ok(address) => Self { address: Some(address), name: words.next().map(str::to_owned) },
            Err(_) => Self { address: None, name: Some(first.to_owned()) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_answers() {
        let who = Who::said(b"10.0.0.1:80 pod-1\n").unwrap();
        assert_eq!(who, Who { address: "10.0.0.1:80".parse().ok(), name: Some("pod-1".to_owned()) });
        let who = Who::said(b"pod-2 10.0.0.9\r\n").unwrap();
        assert_eq!(who, Who { address: None, name: Some("pod-2".to_owned()) });
        assert_eq!(Who::said(b"\n"), None);
    }

    #[test]
    fn every_connection_is_counted_once() {
        let mut tally = Tally::new().unwrap();
        let client: IpAddr = [10, 0, 0, 1].into();
        let who = |name: &str| Who { address: None, name: Some(name.to_owned()) };
        let (a, b) = (tally.number(who("a")), tally.number(who("b")));
        assert_eq!((a, b, tally.number(who("a"))), (Some(0), Some(1), Some(0)));
        let at = Duration::from_millis;
        for (time, endpoint) in [(1, a), (2, b), (3, a), (4, None)] {
            tally.answered(at(time), client, endpoint);
        }
        tally.failed(at(5), Cause::Refused, b);
        assert_eq!((tally.answered, tally.failed, tally.by_nobody), (4, 1, 1));
        let [first, second] = &tally.shares[..] else { panic!("{:?}", tally.shares) };
        assert_eq!((first.connections, first.failures), (2, 0));
        assert_eq!((first.first, first.last), ((1, at(1)), (3, at(3))));
        assert_eq!((second.connections, second.failures), (1, 1));
        assert_eq!(tally.clients[&client], BTreeMap::from([(0, 2), (1, 1)]));
    }

    #[test]
    fn endpoints_without_end_are_bounded() {
        let mut tally = Tally::new().unwrap();
        let number = |tally: &mut Tally, index: usize| {
            tally.number(Who { address: None, name: Some(index.to_string()) })
        };
        assert!((0..MOST_ENDPOINTS).all(|index| number(&mut tally, index) == Some(index)));
        assert_eq!(number(&mut tally, MOST_ENDPOINTS), None);
    }
}
