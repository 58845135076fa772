//! Expressions that end the rule for some packets: bitwise and cmp, limit.

use super::{Register, read_register, read_value, value};
use crate::netlink::{Attributes, Writer};
use crate::nft::types::Bytes;

/// How `cmp` compares (`NFT_CMP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less, as numbers in network order.
    Lt,
    /// Less or equal, as numbers in network order.
    Lte,
    /// Greater, as numbers in network order.
    Gt,
    /// Greater or equal, as numbers in network order.
    Gte,
}

impl Comparison {
    const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Lte, Self::Gt, Self::Gte];

    fn number(self) -> u32 {
        match self {
            Self::Eq => 0,
            Self::Ne => 1,
            Self::Lt => 2,
            Self::Lte => 3,
            Self::Gt => 4,
            Self::Gte => 5,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|comparison| comparison.number() == number)
    }

    /// Whether it holds for a register's bytes and as many others.
    #[must_use]
    pub fn holds(self, register: &[u8], with: &[u8]) -> bool {
        match self {
            Self::Eq => register == with,
            Self::Ne => register != with,
            Self::Lt => register < with,
            Self::Lte => register <= with,
            Self::Gt => register > with,
            Self::Gte => register >= with,
        }
    }
}

/// `limit` counts in seconds.
const ONE_SECOND: u64 = 1;

/// An expression that computes on a register or ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `register = (register & mask) ^ xor`
    Bitwise {
        /// Register read and written.
        register: Register,
        /// Bits to keep.
        mask: Bytes,
        /// Bits to flip, as long as the mask.
        xor: Bytes,
    },
    /// Goes on only if the register's first bytes compare so.
    Cmp {
        /// Register to look at.
        register: Register,
        /// How.
        comparison: Comparison,
        /// With what; its length says how many bytes are looked at.
        with: Bytes,
    },
    /// Goes on only so often, for all packets taken together.
    Limit {
        /// In a second, on the average; not 0.
        per_second: u32,
        /// At once, beyond that. Of 0 the kernel makes 5.
        burst: u32,
    },
}

impl Match {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bitwise { .. } => "bitwise",
            Self::Cmp { .. } => "cmp",
            Self::Limit { .. } => "limit",
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Bitwise { register, mask, xor } => {
                w.be32(1, register.number());
                w.be32(2, register.number());
                w.be32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                value(w, 4, mask);
                value(w, 5, xor);
            }
            Self::Cmp { register, comparison, with } => {
                w.be32(1, register.number());
                w.be32(2, comparison.number());
                value(w, 3, with);
            }
            Self::Limit { per_second, burst } => {
                w.be64(1, u64::from(*per_second));
                w.be64(2, ONE_SECOND);
                w.be32(3, *burst);
            }
        }
    }

    /// What an expression of this name says; `None` if [`Match`] has no words for it.
    pub(super) fn decode(name: &str, from: Attributes<'_>) -> Option<Self> {
        match name {
            "bitwise" => Self::decode_bitwise(from),
            "cmp" => {
                let comparison = Comparison::from_number(from.be32(2)?)?;
                Some(Self::Cmp { register: read_register(from, 1)?, comparison, with: read_value(from, 3)? })
            }
            "limit" => Self::decode_limit(from),
            _ => None,
        }
    }

    /// One that puts the result where it took the value from, and is of masks (`NFT_BITWISE_BOOL`).
    fn decode_bitwise(from: Attributes<'_>) -> Option<Self> {
        const MASKS: u32 = 0;
        let register = read_register(from, 1)?;
        if read_register(from, 2)? != register || from.be32(6).unwrap_or_default() != MASKS {
            return None;
        }
        let (mask, xor) = (read_value(from, 4)?, read_value(from, 5)?);
        (mask.len() == xor.len()).then_some(Self::Bitwise { register, mask, xor })
    }

    /// One of packets, and of as many as it lets through: not of bytes, nor of those beyond it.
    fn decode_limit(from: Attributes<'_>) -> Option<Self> {
        const PACKETS: u32 = 0;
        let is_plain = from.be32(4).unwrap_or_default() == PACKETS && from.be32(5).unwrap_or_default() == 0;
        if !is_plain || from.be64(2)? != ONE_SECOND {
            return None;
        }
        Some(Self::Limit { per_second: u32::try_from(from.be64(1)?).ok()?, burst: from.be32(3)? })
    }
}
