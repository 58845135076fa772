//! Expressions that compare: bitwise, cmp.

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
}

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
}

impl Match {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bitwise { .. } => "bitwise",
            Self::Cmp { .. } => "cmp",
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
                w.be32(
                    2,
                    match comparison {
                        Comparison::Eq => 0,
                        Comparison::Ne => 1,
                    },
                );
                value(w, 3, with);
            }
        }
    }

    /// What an expression of this name says; `None` if [`Match`] has no words for it.
    pub(super) fn decode(name: &str, from: Attributes<'_>) -> Option<Self> {
        let register = read_register(from, 1)?;
        match name {
            "bitwise" if read_register(from, 2)? == register && from.be32(6).unwrap_or_default() == 0 => {
                let (mask, xor) = (read_value(from, 4)?, read_value(from, 5)?);
                (mask.len() == xor.len()).then_some(Self::Bitwise { register, mask, xor })
            }
            "cmp" => {
                let comparison = match from.be32(2)? {
                    0 => Comparison::Eq,
                    1 => Comparison::Ne,
                    _ => return None,
                };
                Some(Self::Cmp { register, comparison, with: read_value(from, 3)? })
            }
            _ => None,
        }
    }
}
