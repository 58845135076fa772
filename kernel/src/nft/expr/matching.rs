//! Expressions that compare: bitwise, cmp.

use super::{Register, value};
use crate::netlink::Writer;
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
}
