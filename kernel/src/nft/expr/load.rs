//! Expressions that bring something about the packet into a register: payload, meta, ct, fib, numgen, immediate.

use super::{Register, read_register, read_value, value};
use crate::netlink::{Attributes, Writer};
use crate::nft::types::Bytes;

/// Which header a payload offset counts from (`NFT_PAYLOAD_*_HEADER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    /// The IP header.
    Network,
    /// The TCP, UDP or SCTP header.
    Transport,
}

/// What `meta` reads (`NFT_META_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// The packet mark, host order.
    Mark,
    /// Name of the interface that the packet came in on, 16 bytes, NUL-padded.
    IifName,
    /// Transport protocol, one byte.
    L4Proto,
    /// The packet's own address family in a table of both, one byte: see [`MetaKey::IPV4`].
    NfProto,
}

impl MetaKey {
    /// `NFPROTO_IPV4`
    pub const IPV4: u8 = 2;
    /// `NFPROTO_IPV6`
    pub const IPV6: u8 = 10;

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::IifName => 6,
            Self::NfProto => 15,
            Self::L4Proto => 16,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::Mark, Self::IifName, Self::NfProto, Self::L4Proto]
            .into_iter()
            .find(|key| key.number() == number)
    }
}

/// What `ct` reads (`NFT_CT_*`), host order where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// State bits: see [`CtKey::STATE_NEW`].
    State,
    /// Status bits: see [`CtKey::STATUS_DNAT`].
    Status,
    /// The mark of the connection.
    Mark,
    /// Transport protocol, one byte.
    Protocol,
}

impl CtKey {
    /// `NF_CT_STATE_INVALID_BIT`: the packet belongs to no connection.
    pub const STATE_INVALID: u32 = 1;
    /// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`
    pub const STATE_ESTABLISHED: u32 = 2;
    /// `NF_CT_STATE_BIT(IP_CT_RELATED)`
    pub const STATE_RELATED: u32 = 4;
    /// `NF_CT_STATE_BIT(IP_CT_NEW)`
    pub const STATE_NEW: u32 = 8;
    /// `NF_CT_STATE_UNTRACKED_BIT`
    pub const STATE_UNTRACKED: u32 = 64;
    /// `IPS_DST_NAT`: the destination was translated.
    pub const STATUS_DNAT: u32 = 0x20;

    pub(super) fn number(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Status => 2,
            Self::Mark => 3,
            Self::Protocol => 10,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::State, Self::Status, Self::Mark, Self::Protocol].into_iter().find(|key| key.number() == number)
    }
}

/// What `ct` reads of one direction of a connection (`NFT_CT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleKey {
    /// IPv4 address of who sends; ends the rule for an IPv6 connection.
    SourceAddress,
    /// IPv4 address of whom it is sent to; ends the rule for an IPv6 connection.
    DestinationAddress,
    /// IPv6 address of who sends; ends the rule for an IPv4 connection.
    SourceAddress6,
    /// IPv6 address of whom it is sent to; ends the rule for an IPv4 connection.
    DestinationAddress6,
    /// Port of who sends, two bytes, network order.
    SourcePort,
    /// Port that it is sent to, two bytes, network order.
    DestinationPort,
}

impl TupleKey {
    const ALL: [Self; 6] = [
        Self::SourceAddress,
        Self::DestinationAddress,
        Self::SourceAddress6,
        Self::DestinationAddress6,
        Self::SourcePort,
        Self::DestinationPort,
    ];

    /// Addresses have keys of their own for each family since Linux 4.17: the older ones, whose length depends on the
    /// table's family, are refused in `inet` tables.
    fn number(self) -> u32 {
        match self {
            Self::SourcePort => 11,
            Self::DestinationPort => 12,
            Self::SourceAddress => 19,
            Self::DestinationAddress => 20,
            Self::SourceAddress6 => 21,
            Self::DestinationAddress6 => 22,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.number() == number)
    }
}

/// Which direction of a connection (`IP_CT_DIR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleDirection {
    /// As its client sends, before any translation.
    Original,
    /// As answers come, from who answers in truth.
    Reply,
}

impl TupleDirection {
    fn number(self) -> u8 {
        match self {
            Self::Original => 0,
            Self::Reply => 1,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Original, Self::Reply].into_iter().find(|direction| direction.number() == number)
    }
}

/// Which address `fib` looks up (`NFTA_FIB_F_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibFlags {
    /// The source address.
    Saddr,
    /// The destination address.
    Daddr,
}

/// `NFT_FIB_RESULT_ADDRTYPE`
const RESULT_ADDRTYPE: u32 = 3;
/// `NFT_NG_RANDOM`
const RANDOM: u32 = 1;

/// An expression that fills a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Bytes of the packet; ends the rule if it has none there.
    Payload {
        /// Header to count from.
        base: PayloadBase,
        /// Bytes from the header's start.
        offset: u32,
        /// How many bytes.
        len: u32,
        /// Where they go.
        into: Register,
    },
    /// Metadata of the packet.
    Meta {
        /// Which.
        key: MetaKey,
        /// Where it goes.
        into: Register,
    },
    /// The packet's conntrack entry; ends the rule if there is none.
    Ct {
        /// What of it.
        key: CtKey,
        /// Where it goes.
        into: Register,
    },
    /// One direction of the packet's conntrack entry; ends the rule if there is none.
    CtTuple {
        /// What of it.
        key: TupleKey,
        /// Which direction.
        direction: TupleDirection,
        /// Where it goes.
        into: Register,
    },
    /// The routing table's type of an address (`RTN_*`, host order): see [`Load::LOCAL`].
    FibType {
        /// Which address.
        of: FibFlags,
        /// Where it goes.
        into: Register,
    },
    /// A random number from 0 to `modulus` - 1, host order.
    Random {
        /// How many numbers there are.
        modulus: u32,
        /// Where it goes.
        into: Register,
    },
    /// A constant.
    Immediate {
        /// The bytes.
        value: Bytes,
        /// Where they go.
        into: Register,
    },
}

impl Load {
    /// `RTN_LOCAL`: an address of this host.
    pub const LOCAL: u32 = 2;

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } => "meta",
            Self::Ct { .. } | Self::CtTuple { .. } => "ct",
            Self::FibType { .. } => "fib",
            Self::Random { .. } => "numgen",
            Self::Immediate { .. } => "immediate",
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Payload { base, offset, len, into } => {
                w.be32(1, into.number());
                w.be32(
                    2,
                    match base {
                        PayloadBase::Network => 1,
                        PayloadBase::Transport => 2,
                    },
                );
                w.be32(3, *offset);
                w.be32(4, *len);
            }
            Self::Meta { key, into } => {
                w.be32(1, into.number());
                w.be32(2, key.number());
            }
            Self::Ct { key, into } => {
                w.be32(1, into.number());
                w.be32(2, key.number());
            }
            Self::CtTuple { key, direction, into } => {
                w.be32(1, into.number());
                w.be32(2, key.number());
                w.attribute(3, &[direction.number()]);
            }
            Self::FibType { of, into } => {
                w.be32(1, into.number());
                w.be32(2, RESULT_ADDRTYPE);
                w.be32(
                    3,
                    match of {
                        FibFlags::Saddr => 1,
                        FibFlags::Daddr => 2,
                    },
                );
            }
            Self::Random { modulus, into } => {
                w.be32(1, into.number());
                w.be32(2, *modulus);
                w.be32(3, RANDOM);
                w.be32(4, 0);
            }
            Self::Immediate { value: bytes, into } => {
                w.be32(1, into.number());
                value(w, 2, bytes);
            }
        }
    }

    /// What an expression of this name says; `None` if [`Load`] has no words for it.
    pub(super) fn decode(name: &str, from: Attributes<'_>) -> Option<Self> {
        let into = read_register(from, 1)?;
        match name {
            "payload" => {
                let base = match from.be32(2)? {
                    1 => PayloadBase::Network,
                    2 => PayloadBase::Transport,
                    _ => return None,
                };
                Some(Self::Payload { base, offset: from.be32(3)?, len: from.be32(4)?, into })
            }
            "meta" => Some(Self::Meta { key: MetaKey::from_number(from.be32(2)?)?, into }),
            "ct" => match from.get(3) {
                None => Some(Self::Ct { key: CtKey::from_number(from.be32(2)?)?, into }),
                Some(direction) => Some(Self::CtTuple {
                    key: TupleKey::from_number(from.be32(2)?)?,
                    direction: TupleDirection::from_number(*direction.first()?)?,
                    into,
                }),
            },
            "fib" if from.be32(2)? == RESULT_ADDRTYPE => {
                let of = match from.be32(3)? {
                    1 => FibFlags::Saddr,
                    2 => FibFlags::Daddr,
                    _ => return None,
                };
                Some(Self::FibType { of, into })
            }
            "numgen" if from.be32(3)? == RANDOM && from.be32(4).unwrap_or_default() == 0 => {
                Some(Self::Random { modulus: from.be32(2)?, into })
            }
            "immediate" => Some(Self::Immediate { value: read_value(from, 2)?, into }),
            _ => None,
        }
    }
}
