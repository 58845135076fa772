//! Expressions: what a rule is made of. Each reads and writes registers, and may end the rule's evaluation.
//!
//! One file per family of expressions, named as the kernel names them (`net/netfilter/nft_*.c`). Encoding follows
//! `linux/netfilter/nf_tables.h`; numbers are big-endian on the wire, register contents are as the packet has them.

mod action;
mod load;
mod matching;
mod set;
#[cfg(test)]
mod tests;

use super::types::Bytes;
use super::uapi;
use crate::netlink::{Attributes, Writer};

pub use action::{Action, NatKind, RejectWith};
pub use load::{CtKey, FibFlags, Load, MetaKey, PayloadBase, TupleDirection, TupleKey};
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

    /// Where its bytes begin among those of all registers, 0 to 60.
    #[must_use]
    pub fn byte(self) -> usize {
        self.0 as usize * 4
    }

    /// `NFT_REG32_00` is 8.
    pub(super) fn number(self) -> u32 {
        8 + self.0
    }

    /// The kernel calls every fourth by its older name: `NFT_REG_1` is 1, and as wide as four of them.
    fn from_number(number: u32) -> Option<Self> {
        match number {
            1..=4 => Some(Self((number - 1) * 4)),
            8..=23 => Some(Self(number - 8)),
            _ => None,
        }
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

/// An expression as it was found in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstalledExpr {
    /// One that we have words for.
    Known(Expr),
    /// Any other: somebody else's.
    Unknown {
        /// Its kind, such as `quota`, as the kernel calls it.
        name: String,
    },
}

impl InstalledExpr {
    /// The expressions of a rule, in order.
    pub(super) fn decode_all(list: Attributes<'_>) -> Vec<Self> {
        list.into_iter().map(|(_, item)| Self::decode(Attributes(item))).collect()
    }

    fn decode(item: Attributes<'_>) -> Self {
        let name = item.string(NAME).unwrap_or("?");
        // Some have no attributes at all.
        let data = item.nested(DATA).unwrap_or(Attributes(&[]));
        match Expr::decode(name, data) {
            Some(known) => Self::Known(known),
            None => Self::Unknown { name: name.to_owned() },
        }
    }
}

impl Expr {
    fn decode(name: &str, data: Attributes<'_>) -> Option<Self> {
        Load::decode(name, data)
            .map(Self::Load)
            .or_else(|| Match::decode(name, data).map(Self::Match))
            .or_else(|| SetAccess::decode(name, data).map(Self::Set))
            .or_else(|| Action::decode(name, data).map(Self::Action))
    }

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

pub(super) const NAME: u16 = 1;
pub(super) const DATA: u16 = 2;
/// `NFTA_COUNTER_*`
pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;

/// `struct nft_data` as an attribute: a value.
fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    w.nest(kind, |w| w.attribute(uapi::data::VALUE, bytes));
}

fn read_value(from: Attributes<'_>, kind: u16) -> Option<Bytes> {
    from.nested(kind)?.get(uapi::data::VALUE).map(Bytes::from_slice)
}

fn read_register(from: Attributes<'_>, kind: u16) -> Option<Register> {
    Register::from_number(from.be32(kind)?)
}
