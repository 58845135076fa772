//! What users are told, as programs read it: an object for each event.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel::conntrack::Tuple;
use kernel::nft::{HookPoint, Met, TraceStep, Verdict};
use serde::Serialize;

use super::record::{self, Fate};
use super::tracing::Tracing;

/// Something that happened. Connections bear numbers, from 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Told {
    /// A connection's first packet went all its way.
    Connection(Connection),
    /// A connection was answered for the first time, or is in another state.
    Changed {
        number: usize,
        /// Since its first packet, as in the others.
        after_milliseconds: f64,
        answered: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'static str>,
    },
    /// A connection has not been answered for so long.
    Unanswered { number: usize, after_milliseconds: f64, endpoint: SocketAddr },
    /// Connection tracking has forgotten a connection.
    Ended { number: usize, after_milliseconds: f64, answered: bool },
    /// Some news were lost: there were more than the socket holds.
    Lost,
}

/// A connection's first packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection {
    pub(super) number: usize,
    /// Since the start.
    pub(super) at_seconds: f64,
    pub(super) protocol: String,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) hops: Vec<Hop>,
    pub(super) outcome: Outcome,
    /// Where it went: who answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<SocketAddr>,
    /// The address that the endpoint sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen_as: Option<IpAddr>,
    /// Whether that is another than the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) masqueraded: Option<bool>,
}

/// What became of a connection's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It was translated, to an endpoint.
    Translated,
    /// It went where it was addressed to.
    Untranslated,
    /// It was dropped, or refused with an error, by the last hop.
    Dropped,
    /// The rules let it pass, and connection tracking has no entry of it: it was lost later, or is not tracked.
    Untracked,
}

/// Something that a packet met.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hop {
    /// Since it was first seen.
    pub(super) after_microseconds: u64,
    /// Where its base chain hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hook: Option<&'static str>,
    pub(super) table: String,
    pub(super) chain: String,
    /// The rule's handle, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    /// In nft's words: `goto services`, `accept`, `policy accept`.
    pub(super) verdict: String,
    /// The packet's new destination, of the first hop that sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<SocketAddr>,
}

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename = "summary", rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) connections: usize,
    pub(super) seconds: f64,
    pub(super) why: &'static str,
}

/// Gives what was recorded its names.
pub(super) fn told(event: record::Event, tracing: &mut Tracing) -> Told {
    use record::Event;
    match event {
        Event::Connection(connection) => Told::Connection(named(connection, tracing)),
        Event::Changed { number, after, answered, state } => {
            Told::Changed { number, after_milliseconds: milliseconds(after), answered, state }
        }
        Event::Unanswered { number, after, endpoint } => {
            Told::Unanswered { number, after_milliseconds: milliseconds(after), endpoint }
        }
        Event::Ended { number, after, answered } => {
            Told::Ended { number, after_milliseconds: milliseconds(after), answered }
        }
        Event::Lost => Told::Lost,
    }
}

fn named(connection: record::Connection, tracing: &mut Tracing) -> Connection {
    let record::Connection { number, at, original, steps, fate } = connection;
    let (outcome, reply) = outcome(original, fate);
    let seen_as = reply.map(|reply| reply.destination.ip());
    let last = match fate {
        Fate::Untracked { last } => Some(last.destination),
        Fate::Left { .. } | Fate::Dropped => None,
    };
    Connection {
        number,
        at_seconds: at.as_secs_f64(),
        protocol: protocol(original.protocol),
        source: original.source,
        destination: original.destination,
        hops: hops(original, steps, tracing),
        outcome,
        endpoint: reply.map(|reply| reply.source).or(last),
        seen_as,
        masqueraded: seen_as.map(|seen_as| seen_as != original.source.ip()),
    }
}

fn outcome(original: Tuple, fate: Fate) -> (Outcome, Option<Tuple>) {
    match fate {
        Fate::Left { reply } if reply.source == original.destination => (Outcome::Untranslated, Some(reply)),
        Fate::Left { reply } => (Outcome::Translated, Some(reply)),
        Fate::Dropped => (Outcome::Dropped, None),
        Fate::Untracked { .. } => (Outcome::Untracked, None),
    }
}

fn hops(original: Tuple, steps: Vec<(Duration, TraceStep)>, tracing: &mut Tracing) -> Vec<Hop> {
    let (mut hook, mut destination) = (None, original.destination);
    let mut hops = Vec::with_capacity(steps.len());
    for (after, step) in steps {
        // Chains that rules jump to hang where the ones hang that the packet came from.
        hook = name_of_hook(tracing, &step).or(hook);
        let (rule, verdict) = verdict(&step.met);
        let comment = rule.and_then(|handle| comment(tracing, &step, handle));
        let moved = step.addresses.map(|now| now.destination).filter(|now| *now != destination);
        destination = moved.unwrap_or(destination);
        hops.push(Hop {
            after_microseconds: u64::try_from(after.as_micros()).unwrap_or(u64::MAX),
            hook,
            table: step.table.to_string(),
            chain: step.chain,
            rule,
            comment,
            verdict,
            destination: moved,
        });
    }
    hops
}

fn name_of_hook(tracing: &mut Tracing, step: &TraceStep) -> Option<&'static str> {
    let Tracing::On { names, .. } = tracing else { return None };
    Some(match names.hook(&step.table, &step.chain)? {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    })
}

fn comment(tracing: &mut Tracing, step: &TraceStep, handle: u64) -> Option<String> {
    let Tracing::On { names, .. } = tracing else { return None };
    names.comment(&step.table, &step.chain, handle)
}

fn verdict(met: &Met) -> (Option<u64>, String) {
    match met {
        Met::Rule { handle, verdict } => {
            (Some(*handle), verdict.as_ref().map_or_else(other, Verdict::to_string))
        }
        Met::Return => (None, "return".to_owned()),
        Met::Policy { accept: true } => (None, "policy accept".to_owned()),
        Met::Policy { accept: false } => (None, "policy drop".to_owned()),
    }
}

fn other() -> String {
    "another verdict".to_owned()
}

fn protocol(number: u8) -> String {
    use endpoint_cache::Protocol::{Sctp, Tcp, Udp};
    let known = [Tcp, Udp, Sctp].into_iter().find(|protocol| protocol.number() == number);
    known.map_or_else(|| number.to_string(), |protocol| protocol.as_str().to_owned())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
