//! Expressions that do something to the packet: verdict, meta set, nat, masquerade, reject, log, counter.

use super::{COUNTER_BYTES, COUNTER_PACKETS, CtKey, MetaKey, Register, VERDICT_REGISTER, read_register};
use crate::netlink::{Attributes, Writer};
use crate::nft::read;
use crate::nft::types::{Data, Family, Verdict};
use crate::nft::write::verdict;

/// Which address `nat` rewrites (`NFT_NAT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Snat,
    /// The destination.
    Dnat,
}

/// With what a packet is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectWith {
    /// ICMP type 3 code 3, in an `ip` table.
    PortUnreachable,
    /// ICMPv6 type 1 code 4, in an `ip6` table.
    PortUnreachable6,
    /// A TCP segment that resets the connection, in any table. Other protocols' packets are dropped without a word.
    TcpReset,
}

/// `NFT_REJECT_ICMP_UNREACH`
const ICMP_UNREACH: u32 = 0;
/// `NFT_REJECT_TCP_RST`
const TCP_RST: u32 = 1;

/// An expression with an effect on the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Decides.
    Verdict(Verdict),
    /// Sets the packet mark from a register, host order.
    SetMark {
        /// Register that holds the mark.
        from: Register,
    },
    /// Sets the connection's mark from a register, host order.
    SetConnectionMark {
        /// Register that holds the mark.
        from: Register,
    },
    /// Rewrites an address and port, once for the connection.
    Nat {
        /// Which.
        kind: NatKind,
        /// Family of the address.
        family: Family,
        /// First register of the address.
        address: Register,
        /// Register of the port, network order.
        port: Option<Register>,
    },
    /// Rewrites the source to the outgoing interface's address, with fully random ports.
    Masquerade,
    /// The same, but the port stays if it is free.
    MasqueradeKeepingPorts,
    /// Drops the packet and answers for whom it was sent to.
    Reject(RejectWith),
    /// Tells the [listener](crate::nflog::Listener) of an nflog group of the packet.
    Log {
        /// The group.
        group: u16,
        /// Told with the packet; at most [`Action::LONGEST_PREFIX`] bytes, without NUL.
        prefix: String,
        /// Bytes of the packet that are told.
        snaplen: u32,
    },
    /// Counts packets and bytes.
    Counter,
}

impl Action {
    /// Bytes that the prefix of [`Action::Log`] may have (`NF_LOG_PREFIXLEN` less the NUL).
    pub const LONGEST_PREFIX: usize = 127;

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Verdict(_) => "immediate",
            Self::SetMark { .. } => "meta",
            Self::SetConnectionMark { .. } => "ct",
            Self::Nat { .. } => "nat",
            Self::Masquerade | Self::MasqueradeKeepingPorts => "masq",
            Self::Reject(_) => "reject",
            Self::Log { .. } => "log",
            Self::Counter => "counter",
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Verdict(decision) => {
                w.be32(1, VERDICT_REGISTER);
                w.nest(2, |w| verdict(w, decision));
            }
            Self::SetMark { from } => {
                w.be32(2, MetaKey::Mark.number());
                w.be32(3, from.number());
            }
            Self::SetConnectionMark { from } => {
                w.be32(2, CtKey::Mark.number());
                w.be32(4, from.number());
            }
            Self::Nat { kind, family, address, port } => {
                w.be32(
                    1,
                    match kind {
                        NatKind::Snat => 0,
                        NatKind::Dnat => 1,
                    },
                );
                w.be32(2, u32::from(family.number()));
                w.be32(3, address.number());
                if let Some(port) = port {
                    w.be32(5, port.number());
                }
            }
            Self::MasqueradeKeepingPorts => {}
            Self::Masquerade => {
                /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
                const RANDOM_FULLY: u32 = 0x10;
                w.be32(1, RANDOM_FULLY);
            }
            Self::Reject(with) => {
                let mut unreachable = |code: u8| {
                    w.be32(1, ICMP_UNREACH);
                    w.attribute(2, &[code]);
                };
                match with {
                    RejectWith::PortUnreachable => unreachable(3),
                    RejectWith::PortUnreachable6 => unreachable(4),
                    RejectWith::TcpReset => w.be32(1, TCP_RST),
                }
            }
            Self::Log { group, prefix, snaplen } => {
                w.attribute(1, &group.to_be_bytes());
                w.string(2, prefix);
                w.be32(3, *snaplen);
            }
            Self::Counter => {
                w.be64(COUNTER_BYTES, 0);
                w.be64(COUNTER_PACKETS, 0);
            }
        }
    }

    /// What an expression of this name says; `None` if [`Action`] has no words for it.
    pub(super) fn decode(name: &str, from: Attributes<'_>) -> Option<Self> {
        match name {
            "immediate" if from.be32(1)? == VERDICT_REGISTER => match read::data(from.nested(2)?)? {
                Data::Verdict(verdict) => Some(Self::Verdict(verdict)),
                Data::Value(_) | Data::None => None,
            },
            "meta" if from.be32(2)? == MetaKey::Mark.number() => {
                Some(Self::SetMark { from: read_register(from, 3)? })
            }
            "ct" if from.be32(2)? == CtKey::Mark.number() => {
                Some(Self::SetConnectionMark { from: read_register(from, 4)? })
            }
            "nat" => Self::decode_nat(from),
            "masq" => Some(from.be32(1).map_or(Self::MasqueradeKeepingPorts, |_| Self::Masquerade)),
            "reject" => match (from.be32(1)?, from.get(2)) {
                (ICMP_UNREACH, Some([3])) => Some(Self::Reject(RejectWith::PortUnreachable)),
                (ICMP_UNREACH, Some([4])) => Some(Self::Reject(RejectWith::PortUnreachable6)),
                (TCP_RST, _) => Some(Self::Reject(RejectWith::TcpReset)),
                _ => None,
            },
            "log" => Self::decode_log(from),
            "counter" => Some(Self::Counter),
            _ => None,
        }
    }

    /// One to a group, with nothing besides: no threshold, level or flags.
    fn decode_log(from: Attributes<'_>) -> Option<Self> {
        if (4..=6).any(|beyond| from.get(beyond).is_some()) {
            return None;
        }
        let prefix = if from.get(2).is_some() { from.string(2)? } else { "" };
        let group = u16::from_be_bytes(from.get(1)?.try_into().ok()?);
        Some(Self::Log { group, prefix: prefix.to_owned(), snaplen: from.be32(3)? })
    }

    fn decode_nat(from: Attributes<'_>) -> Option<Self> {
        let kind = match from.be32(1)? {
            0 => NatKind::Snat,
            1 => NatKind::Dnat,
            _ => return None,
        };
        let family = Family::from_number(u8::try_from(from.be32(2)?).ok()?)?;
        let port = match from.be32(5) {
            None => None,
            Some(port) => Some(Register::from_number(port)?),
        };
        // The kernel tells the ends of ranges too, which are the beginnings where there is no range.
        let is_range = |first: u16, last: u16| from.get(last).is_some_and(|end| from.get(first) != Some(end));
        if is_range(3, 4) || is_range(5, 6) {
            return None;
        }
        Some(Self::Nat { kind, family, address: read_register(from, 3)?, port })
    }
}
