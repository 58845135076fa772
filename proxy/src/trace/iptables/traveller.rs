//! A packet on its way through the rules.

use std::net::{IpAddr, SocketAddr};

use super::super::model::{End, Origin, Packet, Step, Way};
use super::target::{Destination, Target};

/// What rules see of a packet, as it is at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trace) struct Headers {
    pub(in crate::trace) source: IpAddr,
    pub(in crate::trace) destination: SocketAddr,
    /// Where it was sent.
    pub(super) asked: SocketAddr,
    pub(in crate::trace) protocol: u8,
    /// The interface that it came in by.
    pub(in crate::trace) input: Option<String>,
    pub(in crate::trace) mark: u32,
    pub(super) connection_mark: u32,
    /// Whether its connection is tracked, without which nothing is translated.
    pub(super) tracked: bool,
    /// Whether a rule has translated its destination.
    pub(super) translated: bool,
    /// Whether a rule has translated its source.
    pub(super) masqueraded: bool,
}

/// A packet on one of the ways that it may take.
#[derive(Clone, Debug)]
pub(in crate::trace) struct Traveller {
    pub(in crate::trace) share: f64,
    pub(in crate::trace) steps: Vec<Step>,
    pub(in crate::trace) headers: Headers,
    /// Whether something other than a rule has led it to an endpoint.
    pub(in crate::trace) led: bool,
    /// Where it got no further.
    pub(in crate::trace) end: Option<End>,
}

impl Traveller {
    pub(in crate::trace) fn new(packet: &Packet) -> Self {
        let input = match &packet.origin {
            Origin::Node => None,
            Origin::Interface { name, .. } => Some(name.clone()),
        };
        let headers = Headers {
            source: packet.source,
            destination: packet.destination,
            asked: packet.destination,
            protocol: packet.protocol.number(),
            input,
            mark: 0,
            connection_mark: 0,
            tracked: true,
            translated: false,
            masqueraded: false,
        };
        Self { share: 1.0, steps: Vec::new(), headers, led: false, end: None }
    }

    /// Notes what is met.
    pub(in crate::trace) fn step(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.steps.push(Step { place: place.into(), what: what.into() });
    }

    /// Does what a target does to a packet, as far as it stays on its way. Says whether it did anything.
    pub(super) fn change(&mut self, target: &Target) -> bool {
        let headers = &mut self.headers;
        match target {
            Target::Mark { mask, value } => headers.mark = (headers.mark & !mask) ^ value,
            Target::ConnectionMark { mask, value } => {
                headers.connection_mark = (headers.connection_mark & !mask) ^ value;
            }
            Target::SaveMark { packet, connection } => {
                headers.connection_mark = (headers.connection_mark & !connection) ^ (headers.mark & packet);
            }
            Target::RestoreMark { packet, connection } => {
                headers.mark = (headers.mark & !packet) ^ (headers.connection_mark & connection);
            }
            Target::Untracked => headers.tracked = false,
            Target::Masquerade => headers.masqueraded = true,
            Target::Dnat(Destination { address, port }) => {
                let old = headers.destination;
                headers.destination =
                    SocketAddr::new(address.unwrap_or(old.ip()), port.unwrap_or(old.port()));
                headers.translated = true;
            }
            _ => return false,
        }
        true
    }

    /// The way that it has gone.
    pub(in crate::trace) fn arrived(self) -> Way {
        let Headers { destination: to, masqueraded: masquerade, translated, .. } = self.headers;
        let end = self.end.unwrap_or(match translated || self.led {
            true => End::Endpoint { to, masquerade },
            false => End::Untranslated { masquerade },
        });
        Way { share: self.share, steps: self.steps, end }
    }
}
