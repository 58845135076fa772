//! The packet under way: what rules see of it, and what they have done to it.

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;
use kernel::nft::expr::{CtKey, PayloadBase, TupleDirection, TupleKey};
use kernel::nft::{Bytes, octets};

use super::super::model::{End, Origin, Packet, Step};

/// A packet somewhere on one of its ways.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Traveller {
    /// How probable it is that it comes here.
    pub(super) share: f64,
    source: IpAddr,
    /// Where it goes by now.
    pub(super) destination: SocketAddr,
    addressed_to: SocketAddr,
    protocol: Protocol,
    /// The interface that it came in by; empty if it is sent by this node.
    pub(super) interface: String,
    /// The packet mark.
    pub(super) mark: u32,
    /// The connection's mark.
    pub(super) connection_mark: u32,
    /// Whether a rule has translated its destination.
    pub(super) translated: bool,
    /// Whether a rule has translated its source.
    pub(super) masquerade: bool,
    /// Whether it is decided for the connection what its destination is: chains that translate it are passed once.
    pub(super) destination_settled: bool,
    /// The same of its source.
    pub(super) source_settled: bool,
    /// What it has met.
    pub(super) steps: Vec<Step>,
}

impl Traveller {
    pub(super) fn new(packet: &Packet) -> Self {
        Self {
            share: 1.0,
            source: packet.source,
            destination: packet.destination,
            addressed_to: packet.destination,
            protocol: packet.protocol,
            interface: match &packet.origin {
                Origin::Node => String::new(),
                Origin::Interface { name, .. } => name.clone(),
            },
            mark: 0,
            connection_mark: 0,
            translated: false,
            masquerade: false,
            destination_settled: false,
            source_settled: false,
            steps: Vec::new(),
        }
    }

    /// Bytes of its headers, where they are known.
    pub(super) fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Option<Bytes> {
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        let field = |(at, bytes): (usize, Bytes)| {
            let from = offset.checked_sub(at)?;
            bytes.get(from..from.checked_add(len)?).map(Bytes::from_slice)
        };
        match base {
            PayloadBase::Network => self.network_header().into_iter().find_map(field),
            // The source port is any.
            PayloadBase::Transport => field((2, Bytes::from_slice(&self.destination.port().to_be_bytes()))),
        }
    }

    /// Fields of the IP header that are known, each with where it begins.
    fn network_header(&self) -> [(usize, Bytes); 3] {
        let [protocol, source, destination] = if self.source.is_ipv4() { [9, 12, 16] } else { [6, 8, 24] };
        [
            (protocol, Bytes::from_slice(&[self.protocol.number()])),
            (source, octets(self.source)),
            (destination, octets(self.destination.ip())),
        ]
    }

    /// The number of its transport protocol.
    pub(super) fn protocol(&self) -> u8 {
        self.protocol.number()
    }

    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// What its conntrack entry says. It is the first packet of its connection.
    pub(super) fn connection(&self, key: CtKey) -> Bytes {
        let number = |number: u32| Bytes::from_slice(&number.to_ne_bytes());
        match key {
            CtKey::State => number(CtKey::STATE_NEW),
            CtKey::Mark => number(self.connection_mark),
            // A translation to where it goes anyhow is none.
            CtKey::Status if self.destination != self.addressed_to => number(CtKey::STATUS_DNAT),
            CtKey::Status => number(0),
            CtKey::Protocol => Bytes::from_slice(&[self.protocol()]),
        }
    }

    /// Whether its conntrack entry has such a field: not addresses of the other family.
    pub(super) fn has_in_tuple(&self, key: TupleKey) -> bool {
        match key {
            TupleKey::SourceAddress | TupleKey::DestinationAddress => self.source.is_ipv4(),
            TupleKey::SourceAddress6 | TupleKey::DestinationAddress6 => self.source.is_ipv6(),
            TupleKey::SourcePort | TupleKey::DestinationPort => true,
        }
    }

    /// What one direction of its conntrack entry says, where that is known: not its own port, nor as whom it is sent
    /// once its source is translated.
    pub(super) fn tuple(&self, key: TupleKey, direction: TupleDirection) -> Option<Bytes> {
        let sender = (self.source, None);
        let (from, to) = match direction {
            TupleDirection::Original => (Some(sender), Some(known(self.addressed_to))),
            TupleDirection::Reply => (Some(known(self.destination)), (!self.masquerade).then_some(sender)),
        };
        let port = |port: u16| Bytes::from_slice(&port.to_be_bytes());
        match key {
            TupleKey::SourceAddress | TupleKey::SourceAddress6 => from.map(|(address, _)| octets(address)),
            TupleKey::DestinationAddress | TupleKey::DestinationAddress6 => {
                to.map(|(address, _)| octets(address))
            }
            TupleKey::SourcePort => from.and_then(|(_, number)| number).map(port),
            TupleKey::DestinationPort => to.and_then(|(_, number)| number).map(port),
        }
    }

    /// Where its way ends if nobody stops it.
    pub(super) fn arrival(&self) -> End {
        let masquerade = self.masquerade;
        if self.translated {
            End::Endpoint { to: self.destination, masquerade }
        } else {
            End::Untranslated { masquerade }
        }
    }

    /// Whether it is at the same place with the same past as another, but for how probable that is.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.destination == other.destination && *self == Self { share: self.share, ..other.clone() }
    }
}

/// Brings together those that are alike.
pub(super) fn merge(travellers: Vec<Traveller>) -> Vec<Traveller> {
    let mut merged: Vec<Traveller> = Vec::with_capacity(travellers.len());
    for traveller in travellers {
        match merged.iter_mut().find(|other| other.is_like(&traveller)) {
            Some(other) => other.share += traveller.share,
            None => merged.push(traveller),
        }
    }
    merged
}

fn known(end: SocketAddr) -> (IpAddr, Option<u16>) {
    (end.ip(), Some(end.port()))
}
