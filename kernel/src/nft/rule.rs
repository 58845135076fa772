//! A rule: expressions, a comment, and a fingerprint by which the next process knows it again.

use super::expr::{Expr, InstalledExpr};
use super::uapi::{rule, userdata as kind};
use super::userdata;
use crate::netlink::Writer;

/// Identifies what a rule does: a hash of its encoded expressions, kept in the rule's user data. Two rules with the
/// same fingerprint need not be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// A rule to be added to a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does, in order.
    pub expressions: Vec<Expr>,
    /// What it is for, shown by `nft list`.
    pub comment: Option<String>,
}

/// A rule as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRule {
    /// Chain that it is in.
    pub chain: String,
    /// The kernel's number for it, unique in the table.
    pub handle: u64,
    /// Its fingerprint, if one of ours wrote it.
    pub fingerprint: Option<Fingerprint>,
}

/// What a rule in the kernel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// Its expressions, in order.
    pub expressions: Vec<InstalledExpr>,
    /// What it is for, if it says.
    pub comment: Option<String>,
}

/// How often a rule was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedRule {
    /// Chain that it is in.
    pub chain: String,
    /// What it is for, if it says.
    pub comment: Option<String>,
    /// Packets that came to its counter.
    pub packets: u64,
    /// Bytes of these, with their IP headers.
    pub bytes: u64,
}

impl Rule {
    /// The rule's fingerprint (FNV-1a over expressions and comment; the same in every build).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut writer = Writer::default();
        self.expressions.iter().for_each(|expression| expression.encode(&mut writer));
        let comment = self.comment.iter().flat_map(String::as_bytes);
        Fingerprint(hash(writer.bytes().iter().chain(comment)))
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.nest(rule::EXPRESSIONS, |w| self.expressions.iter().for_each(|expression| expression.encode(w)));
        let mut userdata = Vec::new();
        if let Some(comment) = &self.comment {
            userdata::push_text(&mut userdata, kind::COMMENT, comment);
        }
        userdata::push(&mut userdata, kind::FINGERPRINT, &self.fingerprint().0.to_be_bytes());
        w.attribute(rule::USERDATA, &userdata);
    }
}

/// FNV-1a, 64 bits: the same in every build, for names and fingerprints that outlive the process. Not for untrusted
/// keys of tables.
pub fn hash<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Fingerprint {
    pub(super) fn from_userdata(bytes: &[u8]) -> Option<Self> {
        let value = userdata::get(bytes, kind::FINGERPRINT)?;
        Some(Self(u64::from_be_bytes(value.try_into().ok()?)))
    }
}
