//! Expressions on sets and maps: lookup, dynset.

use super::{Register, VERDICT_REGISTER, read_register};
use crate::netlink::{Attributes, Writer};

/// `NFT_LOOKUP_F_INV`
const LOOKUP_F_INV: u32 = 1;

/// What `dynset` does (`NFT_DYNSET_OP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynsetOp {
    /// Adds the element, or restarts its timeout; the data of one that exists is *not* replaced.
    Update,
    /// Removes the element, if it is there.
    Delete,
}

/// An expression that asks or changes a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAccess {
    /// Goes on only if the key is in the set (or, `inverted`, is not).
    Contains {
        /// Name of the set; a plain one.
        set: String,
        /// First register of the key.
        key: Register,
        /// Go on only if it is absent.
        inverted: bool,
    },
    /// Looks a key up; goes on only if it is there.
    Lookup {
        /// Name of the map.
        map: String,
        /// First register of the key.
        key: Register,
        /// First register of the value.
        into: Register,
    },
    /// Looks a verdict up and acts on it; goes on with the next rule if there is none.
    VerdictLookup {
        /// Name of the verdict map.
        map: String,
        /// First register of the key.
        key: Register,
    },
    /// Changes an element; ends the rule when the set is full.
    Dynset {
        /// Name of the dynamic set or map.
        set: String,
        /// What to do.
        op: DynsetOp,
        /// First register of the key.
        key: Register,
        /// First register of the data, for a map.
        data: Option<Register>,
        /// After which time without update the element goes, in milliseconds.
        timeout_ms: Option<u64>,
    },
}

impl SetAccess {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Contains { .. } | Self::Lookup { .. } | Self::VerdictLookup { .. } => "lookup",
            Self::Dynset { .. } => "dynset",
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Contains { set, key, inverted } => {
                w.string(1, set);
                w.be32(2, key.number());
                if *inverted {
                    w.be32(5, LOOKUP_F_INV);
                }
            }
            Self::Lookup { map, key, into } => {
                w.string(1, map);
                w.be32(2, key.number());
                w.be32(3, into.number());
            }
            Self::VerdictLookup { map, key } => {
                w.string(1, map);
                w.be32(2, key.number());
                w.be32(3, VERDICT_REGISTER);
            }
            Self::Dynset { set, op, key, data, timeout_ms } => {
                w.string(1, set);
                w.be32(
                    3,
                    match op {
                        DynsetOp::Update => 1,
                        DynsetOp::Delete => 2,
                    },
                );
                w.be32(4, key.number());
                if let Some(data) = data {
                    w.be32(5, data.number());
                }
                if let Some(timeout) = timeout_ms {
                    w.be64(6, *timeout);
                }
            }
        }
    }

    /// What an expression of this name says; `None` if [`SetAccess`] has no words for it.
    pub(super) fn decode(name: &str, from: Attributes<'_>) -> Option<Self> {
        match name {
            "lookup" => Self::decode_lookup(from),
            "dynset" => Self::decode_dynset(from),
            _ => None,
        }
    }

    fn decode_lookup(from: Attributes<'_>) -> Option<Self> {
        let (set, key) = (from.string(1)?.to_owned(), read_register(from, 2)?);
        let inverted = match from.be32(5).unwrap_or_default() {
            0 => false,
            LOOKUP_F_INV => true,
            _ => return None,
        };
        match from.be32(3) {
            None => Some(Self::Contains { set, key, inverted }),
            Some(_) if inverted => None,
            Some(VERDICT_REGISTER) => Some(Self::VerdictLookup { map: set, key }),
            Some(into) => Some(Self::Lookup { map: set, key, into: Register::from_number(into)? }),
        }
    }

    fn decode_dynset(from: Attributes<'_>) -> Option<Self> {
        /// `NFTA_DYNSET_EXPR` and `NFTA_DYNSET_EXPRESSIONS`: limits and counters of elements.
        const STATEFUL: [u16; 2] = [7, 10];
        let op = match from.be32(3)? {
            1 => DynsetOp::Update,
            2 => DynsetOp::Delete,
            _ => return None,
        };
        if STATEFUL.into_iter().any(|kind| from.get(kind).is_some()) {
            return None;
        }
        let data = match from.be32(5) {
            None => None,
            Some(data) => Some(Register::from_number(data)?),
        };
        let timeout_ms = from.be64(6).filter(|timeout| *timeout > 0);
        Some(Self::Dynset {
            set: from.string(1)?.to_owned(),
            op,
            key: read_register(from, 4)?,
            data,
            timeout_ms,
        })
    }
}
