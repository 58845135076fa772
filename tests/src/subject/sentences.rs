//! The sentences that scenarios are made of: who reaches whom, and as whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};

use super::Subject;
use super::predictions::Reality;
use crate::await_that;
use crate::place::{Outcome, Place, Protocol};

/// Connections for each endpoint that ought to be chosen: one of three is missed once in 10^10 runs.
const TRIES: usize = 20;

/// Someone who connects.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// From where.
    pub place: Place<'a>,
    /// As whom.
    pub ip: IpAddr,
}

/// As whom a pod sees its client.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// As itself.
    AsItself,
    /// As this node.
    Masqueraded,
    /// As this node; but a pod of this node as itself if the process connects for it, since answers come back to there.
    MasqueradedUnlessCarried,
}

impl Subject {
    /// A pod of this node, counted from 1.
    #[must_use]
    pub fn pod(&self, number: u8) -> Who<'_> {
        Who { place: Place::of(self.bed.pod_namespace(number)), ip: self.bed.pod(number).ip(self.family()) }
    }

    /// The node itself.
    #[must_use]
    pub fn node(&self) -> Who<'_> {
        Who { place: Place::of(&self.bed.node), ip: self.family().node() }
    }

    /// An outsider.
    #[must_use]
    pub fn client(&self) -> Who<'_> {
        let ip = self.family().client();
        Who { place: Place::of(&self.bed.client).from_address(ip), ip }
    }

    /// Another outsider, beyond [`Family::client_range`](crate::Family::client_range).
    #[must_use]
    pub fn foreign_client(&self) -> Who<'_> {
        let ip = self.family().foreign_client();
        Who { place: Place::of(&self.bed.client).from_address(ip), ip }
    }

    /// Over TCP, exactly these pods answer, and see the client so.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn reaches(
        &self,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        pods: &[&str],
        seen: Seen,
    ) -> Result<BTreeMap<Outcome, usize>> {
        self.reaches_over(Protocol::Tcp, who, to, pods, seen)
    }

    /// Exactly these pods answer, and see the client so; how often each did.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn reaches_over(
        &self,
        protocol: Protocol,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        pods: &[&str],
        seen: Seen,
    ) -> Result<BTreeMap<Outcome, usize>> {
        let to = to.into();
        let counts = who.place.connect_times(protocol, to, TRIES * pods.len())?;
        let expected: BTreeSet<Outcome> = pods
            .iter()
            .map(|pod| Outcome::Answered { by: (*pod).to_owned(), seen_as: self.seen_as(who, pod, seen) })
            .collect();
        ensure!(
            counts.keys().eq(expected.iter()),
            "{protocol:?} from {} ({}) to {to}: expected {}; got {}",
            who.place.namespace.name(),
            who.ip,
            listed(expected.iter()),
            listed(counts.keys()),
        );
        self.hold_against_trace(protocol, who, to, Reality::Outcomes(&expected))?;
        Ok(counts)
    }

    /// The address that a pod sees.
    #[must_use]
    pub fn seen_as(&self, who: Who<'_>, pod: &str, seen: Seen) -> IpAddr {
        match seen {
            Seen::AsItself => who.ip,
            Seen::MasqueradedUnlessCarried if self.mode().is_userspace() && self.is_pod(who) => who.ip,
            // As a client of its own, which the route to the pod gives the address.
            _ if self.mode().is_userspace() => self.family().node(),
            // The node's address on the way to that pod.
            _ if pod.starts_with("remote") => self.family().node(),
            _ => self.family().gateway(),
        }
    }

    fn is_pod(&self, who: Who<'_>) -> bool {
        who.place.namespace.name().starts_with("pod-")
    }

    /// Waits until exactly these pods answer a pod. A sync that was awaited may have been a repair.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn await_reaches(&self, to: SocketAddr, pods: &[&str]) -> Result<()> {
        let is_so = || Ok(self.reaches(self.pod(3), to, pods, Seen::AsItself).is_ok());
        await_that(&format!("{to} leads to {pods:?}"), is_so)
    }

    /// Refused over TCP.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn refused(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        self.comes_to(Protocol::Tcp, who, to, &Outcome::Refused)
    }

    /// Dropped without an answer.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn dropped(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        self.comes_to(Protocol::Tcp, who, to, &Outcome::Silence)
    }

    /// Exactly this comes of it.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn comes_to(
        &self,
        protocol: Protocol,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        expected: &Outcome,
    ) -> Result<()> {
        let to = to.into();
        let outcome = match expected {
            Outcome::Silence => who.place.connect_briefly(protocol, to)?,
            _ => who.place.connect(protocol, to)?,
        };
        ensure!(
            outcome == *expected,
            "{protocol:?} from {} ({}) to {to}: expected {expected}; got {outcome}",
            who.place.namespace.name(),
            who.ip
        );
        self.hold_against_trace(protocol, who, to, Reality::Outcomes(&[outcome].into()))
    }

    /// Whatever becomes of it, no pod answers.
    ///
    /// # Errors
    /// When something else comes of it.
    pub fn unanswered(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        let to = to.into();
        let outcome = who.place.connect_briefly(Protocol::Tcp, to)?;
        ensure!(!matches!(outcome, Outcome::Answered { .. }), "{to} is answered: {outcome}");
        self.hold_against_trace(Protocol::Tcp, who, to, Reality::Unanswered)
    }
}

fn listed<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    outcomes.map(Outcome::to_string).collect::<Vec<_>>().join(", ")
}

/// The pod that answered.
///
/// # Errors
/// When none did.
pub fn answerer(outcome: &Outcome) -> Result<&str> {
    match outcome {
        Outcome::Answered { by, .. } => Ok(by),
        other => anyhow::bail!("no pod answered: {other}"),
    }
}
