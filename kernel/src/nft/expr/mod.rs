//! Expressions: what a rule is made of. Each reads and writes registers, and may end the rule's evaluation.
//!
//! One file per family of expressions, named as the kernel names them (`net/netfilter/nft_*.c`). Encoding follows
//! `linux/netfilter/nf_tables.h`; numbers are big-endian on the wire, register contents are as the packet has them.

mod action;
mod load;
mod matching;
mod set;

use super::uapi;
use crate::netlink::Writer;

pub use action::{Action, IcmpCode, NatKind};
pub use load::{CtKey, FibFlags, Load, MetaKey, PayloadBase};
pub use matching::{Comparison, Match};
pub use set::{DynsetOp, SetAccess};

/// One of the sixteen 32-bit registers (`NFT_REG32_00` to `_15`). Wider values take the ones that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u32);

impl Register {
    /// Register `number`, 0 to 15.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        assert!(number < 16, "nf_tables has sixteen 32-bit registers");
        Self(number)
    }

    /// The register `bytes` further on: where the next field of a concatenation goes.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        let words = u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX);
        Self::new(self.0.saturating_add(words))
    }

    /// `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        8 + self.0
    }
}

/// `NFT_REG_VERDICT`: the packet's fate, as a destination for lookups in verdict maps.
const VERDICT_REGISTER: u32 = 0;

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Brings something about the packet into a register.
    Load(Load),
    /// Goes on only if a register holds what it should.
    Match(Match),
    /// Asks or changes a set or map.
    Set(SetAccess),
    /// Does something to the packet.
    Action(Action),
}

impl Expr {
    pub(super) fn encode(&self, w: &mut Writer) {
        let name = match self {
            Self::Load(load) => load.name(),
            Self::Match(matching) => matching.name(),
            Self::Set(access) => access.name(),
            Self::Action(action) => action.name(),
        };
        w.nest(uapi::LIST_ELEM, |w| {
            w.string(NAME, name);
            w.nest(DATA, |w| match self {
                Self::Load(load) => load.encode(w),
                Self::Match(matching) => matching.encode(w),
                Self::Set(access) => access.encode(w),
                Self::Action(action) => action.encode(w),
            });
        });
    }
}

const NAME: u16 = 1;
const DATA: u16 = 2;

/// `struct nft_data` as an attribute: a value.
fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    w.nest(kind, |w| w.attribute(uapi::data::VALUE, bytes));
}
