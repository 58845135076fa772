//! How tables, chains, rules, sets and elements are read back. Whatever does not parse is left out.

use super::expr::{self, InstalledExpr};
use super::rule::{CountedRule, Fingerprint, InstalledRule, ListedRule};
use super::types::{
    Bytes, Chain, ChainType, Data, DataType, Element, Family, Hook, HookPoint, ListedChain, MapTo, Set,
    Table, Verdict, fields, type_number, width,
};
use super::uapi::{self, chain, data, element, msg, rule, set, table, userdata as kind};
use super::{userdata, write};
use crate::netlink::{Attributes, Message};

/// A set as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledSet {
    /// Name.
    pub name: String,
    flags: u32,
    key_type: u32,
    key_len: u32,
    data_type: u32,
    data_len: u32,
    size: Option<u32>,
}

impl InstalledSet {
    /// Whether it is what a definition asks for, so that rules and elements made for it fit.
    #[must_use]
    pub fn is(&self, definition: &Set) -> bool {
        let wide = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let data = match &definition.data {
            MapTo::Nothing => (0, 0),
            MapTo::Verdict => (data::TYPE_VERDICT, self.data_len),
            MapTo::Value(fields) => (type_number(fields), wide(width(fields))),
        };
        self.name == definition.name
            && self.flags == write::flags(definition)
            && (self.key_type, self.key_len) == (type_number(&definition.key), wide(width(&definition.key)))
            && (self.data_type, self.data_len) == data
            && self.size == definition.size
    }

    /// Bytes of a key in registers' layout.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.key_len as usize
    }

    /// Fields of the key; `None` where one has a type that we have no name for.
    #[must_use]
    pub fn key(&self) -> Option<Vec<DataType>> {
        fields(self.key_type)
    }

    /// Fields of the values that keys map to; `None` if they map to nothing, to verdicts, or to a type that we have no
    /// name for.
    #[must_use]
    pub fn value(&self) -> Option<Vec<DataType>> {
        fields(self.data_type)
    }

    /// Whether keys map to anything.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.flags & set::F_MAP != 0
    }

    /// Whether elements are ranges.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        self.flags & set::F_INTERVAL != 0
    }
}

pub(super) fn table(message: &Message<'_>) -> Option<Table> {
    let family = Family::from_number(message.family())?;
    Some(Table { family, name: message.attributes().string(table::NAME)?.to_owned() })
}

pub(super) fn chain(message: &Message<'_>, of: &Table) -> Option<Chain> {
    let attributes = message.attributes();
    if !belongs(message, of, chain::TABLE) {
        return None;
    }
    let hook = attributes.nested(chain::HOOK).and_then(|hook| self::hook(attributes, hook));
    Some(Chain { name: attributes.string(chain::NAME)?.to_owned(), hook })
}

pub(super) fn listed_chain(message: &Message<'_>, of: &Table) -> Option<ListedChain> {
    const DROP: u32 = 0;
    let chain = chain(message, of)?;
    let drops = chain.hook.is_some() && message.attributes().be32(chain::POLICY) == Some(DROP);
    Some(ListedChain { chain, drops })
}

fn hook(chain_attributes: Attributes<'_>, hook: Attributes<'_>) -> Option<Hook> {
    let point = HookPoint::from_number(hook.be32(chain::HOOK_HOOKNUM)?)?;
    let kind = chain_attributes.string(chain::TYPE)?;
    let kind = [ChainType::Filter, ChainType::Nat].into_iter().find(|known| known.name() == kind)?;
    Some(Hook { kind, point, priority: hook.be32(chain::HOOK_PRIORITY)?.cast_signed() })
}

pub(super) fn rule(message: &Message<'_>, of: &Table) -> Option<InstalledRule> {
    let attributes = message.attributes();
    if !belongs(message, of, rule::TABLE) {
        return None;
    }
    Some(InstalledRule {
        chain: attributes.string(rule::CHAIN)?.to_owned(),
        handle: attributes.be64(rule::HANDLE)?,
        fingerprint: attributes.get(rule::USERDATA).and_then(Fingerprint::from_userdata),
    })
}

pub(super) fn listed_rule(message: &Message<'_>, of: &Table) -> Option<ListedRule> {
    let attributes = message.attributes();
    if !belongs(message, of, rule::TABLE) {
        return None;
    }
    let userdata = attributes.get(rule::USERDATA);
    Some(ListedRule {
        comment: userdata.and_then(|bytes| userdata::text(bytes, kind::COMMENT)),
        expressions: attributes.nested(rule::EXPRESSIONS).map(InstalledExpr::decode_all).unwrap_or_default(),
    })
}

/// A rule that counts; of several counters, the first.
pub(super) fn counted_rule(message: &Message<'_>, of: &Table) -> Option<CountedRule> {
    let attributes = message.attributes();
    if !belongs(message, of, rule::TABLE) {
        return None;
    }
    let mut expressions = attributes.nested(rule::EXPRESSIONS)?.into_iter().map(|(_, item)| Attributes(item));
    let counter = expressions.find(|expression| expression.string(expr::NAME) == Some("counter"))?;
    let counter = counter.nested(expr::DATA)?;
    let userdata = attributes.get(rule::USERDATA);
    Some(CountedRule {
        chain: attributes.string(rule::CHAIN)?.to_owned(),
        comment: userdata.and_then(|bytes| userdata::text(bytes, kind::COMMENT)),
        packets: counter.be64(expr::COUNTER_PACKETS)?,
        bytes: counter.be64(expr::COUNTER_BYTES)?,
    })
}

pub(super) fn set(message: &Message<'_>, of: &Table) -> Option<InstalledSet> {
    const ANONYMOUS: u32 = 1;
    let attributes = message.attributes();
    let flags = attributes.be32(set::FLAGS).unwrap_or_default();
    if !belongs(message, of, set::TABLE) || flags & ANONYMOUS != 0 {
        return None;
    }
    Some(InstalledSet {
        name: attributes.string(set::NAME)?.to_owned(),
        flags,
        key_type: attributes.be32(set::KEY_TYPE).unwrap_or_default(),
        key_len: attributes.be32(set::KEY_LEN).unwrap_or_default(),
        data_type: attributes.be32(set::DATA_TYPE).unwrap_or_default(),
        data_len: attributes.be32(set::DATA_LEN).unwrap_or_default(),
        size: attributes.nested(set::DESC).and_then(|desc| desc.be32(set::DESC_SIZE)),
    })
}

fn belongs(message: &Message<'_>, of: &Table, table_attribute: u16) -> bool {
    message.family() == of.family.number() && message.attributes().string(table_attribute) == Some(&of.name)
}

pub(super) fn elements(message: &Message<'_>, found: &mut Vec<Element>) {
    let list = message.attributes().nested(element::LIST_ELEMENTS);
    found.extend(list.into_iter().flatten().filter_map(|(_, item)| element(Attributes(item))));
}

fn element(item: Attributes<'_>) -> Option<Element> {
    let value = |attributes: Attributes<'_>| attributes.get(data::VALUE).map(Bytes::from_slice);
    let flags = item.be32(element::FLAGS).unwrap_or_default();
    Some(Element {
        key: item.nested(element::KEY).and_then(value)?,
        key_end: item.nested(element::KEY_END).and_then(value),
        interval_end: flags & element::F_INTERVAL_END != 0,
        data: item.nested(element::DATA).and_then(data).unwrap_or_default(),
        comment: item.get(element::USERDATA).and_then(|bytes| userdata::text(bytes, kind::COMMENT)),
    })
}

pub(super) fn data(attributes: Attributes<'_>) -> Option<Data> {
    if let Some(value) = attributes.get(data::VALUE) {
        return Some(Data::Value(Bytes::from_slice(value)));
    }
    let verdict = attributes.nested(data::VERDICT)?;
    let code = verdict.be32(data::VERDICT_CODE)?.cast_signed();
    Verdict::from_parts(code, verdict.string(data::VERDICT_CHAIN)).map(Data::Verdict)
}

/// An operation of a batch in words, for when the kernel refuses it.
pub(super) fn describe(message: &Message<'_>, table: &Table) -> String {
    let attributes = message.attributes();
    let name = |kind: u16| attributes.string(kind).unwrap_or("?");
    match message.kind {
        msg::NEWTABLE => format!("add table {table}"),
        msg::DELTABLE => format!("delete table {table}"),
        msg::NEWCHAIN => format!("add chain {table} {}", name(chain::NAME)),
        msg::DELCHAIN => format!("delete chain {table} {}", name(chain::NAME)),
        msg::NEWRULE => format!("add a rule to chain {table} {}", name(rule::CHAIN)),
        msg::DELRULE => format!("flush chain {table} {}", name(rule::CHAIN)),
        msg::NEWSET => format!("add set {table} {}", name(set::NAME)),
        msg::DELSET => format!("delete set {table} {}", name(set::NAME)),
        msg::NEWSETELEM => format!("add elements to set {table} {}", name(element::LIST_SET)),
        msg::DELSETELEM => format!("delete elements of set {table} {}", name(element::LIST_SET)),
        uapi::BATCH_BEGIN | uapi::BATCH_END => format!("change table {table}"),
        kind => format!("perform operation {kind:#x} on table {table}"),
    }
}
