//! A transaction: what is to change in one table, applied whole or not at all.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::expr::Expr;
use super::rule::Rule;
use super::tracer::{self, TraceLimit};
use super::types::{Chain, Element, Set, Table};
use super::uapi::{
    BATCH_BEGIN, BATCH_END, SUBSYSTEM, chain, element, msg, rule, set, table, userdata as kind,
};
use super::{userdata, write};
use crate::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Writer};

/// Elements of one message stop here: a list of them is one attribute, and an attribute has at most 65,535 bytes.
const LIST_LIMIT: usize = 60_000;

/// Operations on one table, in the order they were added.
///
/// The kernel checks each against the state that the ones before it leave, and commits them together. Removing what
/// does not exist, or adding again what exists with other properties, fails the whole.
pub struct Batch {
    table: Table,
    writer: Writer,
    first_sequence: u32,
    messages: u32,
    operations: usize,
}

impl Batch {
    /// An empty transaction on a table, which need not exist yet.
    #[must_use]
    pub fn new(table: Table) -> Self {
        let mut batch =
            Self { table, writer: Writer::default(), first_sequence: 1, messages: 0, operations: 0 };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// The table that this changes.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How many chains, rules, sets and elements it adds or removes.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Bytes on the wire so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writer.len()
    }

    /// Adds the table, unless it exists.
    pub fn add_table(&mut self, comment: &str) {
        let mut userdata = Vec::new();
        userdata::push_text(&mut userdata, kind::COMMENT, comment);
        self.operation(msg::NEWTABLE, NLM_F_CREATE, |w, name| {
            w.string(table::NAME, name);
            w.attribute(table::USERDATA, &userdata);
        });
    }

    /// Adds a table that nobody else can change, and that goes with the connection which this is committed through.
    pub(super) fn add_own_table(&mut self, comment: &str) {
        let mut userdata = Vec::new();
        userdata::push_text(&mut userdata, kind::COMMENT, comment);
        self.operation(msg::NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, |w, name| {
            w.string(table::NAME, name);
            w.be32(table::FLAGS, table::F_OWNER);
            w.attribute(table::USERDATA, &userdata);
        });
    }

    /// Adds a rule that has packets traced.
    pub(super) fn add_tracing_rule(&mut self, chain: &str, conditions: &[Expr], limit: TraceLimit) {
        self.operation(msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w, table| {
            w.string(rule::TABLE, table);
            w.string(rule::CHAIN, chain);
            w.nest(rule::EXPRESSIONS, |w| {
                conditions.iter().for_each(|condition| condition.encode(w));
                tracer::have_traced(w, limit);
            });
        });
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.operation(msg::DELTABLE, 0, |w, name| w.string(table::NAME, name));
    }

    /// Adds a chain, unless it exists.
    pub fn add_chain(&mut self, new: &Chain) {
        self.operation(msg::NEWCHAIN, NLM_F_CREATE, |w, table| {
            const ACCEPT: u32 = 1;
            w.string(chain::TABLE, table);
            w.string(chain::NAME, &new.name);
            if let Some(hook) = new.hook {
                w.nest(chain::HOOK, |w| {
                    w.be32(chain::HOOK_HOOKNUM, hook.point.number());
                    w.be32(chain::HOOK_PRIORITY, hook.priority.cast_unsigned());
                });
                w.be32(chain::POLICY, ACCEPT);
                w.string(chain::TYPE, hook.kind.name());
            }
        });
    }

    /// Removes a chain that nothing refers to, and its rules.
    pub fn delete_chain(&mut self, name: &str) {
        self.operation(msg::DELCHAIN, 0, |w, table| {
            w.string(chain::TABLE, table);
            w.string(chain::NAME, name);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.operation(msg::DELRULE, 0, |w, table| {
            w.string(rule::TABLE, table);
            w.string(rule::CHAIN, name);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, new: &Rule) {
        self.operation(msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w, table| {
            w.string(rule::TABLE, table);
            w.string(rule::CHAIN, chain);
            new.encode(w);
        });
    }

    /// Adds a set or map, unless it exists.
    pub fn add_set(&mut self, new: &Set) {
        let id = self.messages;
        self.operation(msg::NEWSET, NLM_F_CREATE, |w, table| write::definition(w, table, new, id));
    }

    /// Removes a set that no rule refers to.
    pub fn delete_set(&mut self, name: &str) {
        self.operation(msg::DELSET, 0, |w, table| {
            w.string(set::TABLE, table);
            w.string(set::NAME, name);
        });
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, name: &str) {
        self.operation(msg::DELSETELEM, 0, |w, table| {
            w.string(element::LIST_TABLE, table);
            w.string(element::LIST_SET, name);
        });
    }

    /// Adds elements to a set.
    pub fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(msg::NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Removes elements of a set; their data is not looked at.
    pub fn delete_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(msg::DELSETELEM, 0, set, elements);
    }

    /// Removes the elements that a set was to hold `before` and not `after`, and adds those that it is to hold `after` and
    /// was not `before`; returns how many of each. A range comes and goes whole.
    pub fn replace_elements(&mut self, set: &str, before: &[Element], after: &[Element]) -> (usize, usize) {
        let (before, after) = (units(before), units(after));
        let unwanted: Vec<_> = before.difference(&after).flatten().copied().collect();
        let missing: Vec<_> = after.difference(&before).flatten().copied().collect();
        let counts = (unwanted.len(), missing.len());
        self.delete_elements(set, unwanted);
        self.add_elements(set, missing);
        counts
    }

    /// Adds an operation that the kernel refuses whatever the table holds, and with it the whole; returns its sequence
    /// number.
    pub(super) fn spoil(&mut self) -> u32 {
        // No chain can be called so: `nft` would have no way to say it.
        self.delete_chain("\u{1}");
        self.first_sequence + self.messages - 1
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut count = 0;
            self.operation(kind, flags, |w, table| {
                w.string(element::LIST_TABLE, table);
                w.string(element::LIST_SET, set);
                let list = w.open_nest(element::LIST_ELEMENTS);
                let start = w.len();
                while w.len() - start < LIST_LIMIT
                    && let Some(item) = elements.next()
                {
                    write::element(w, item);
                    count += 1;
                }
                w.close_nest(list);
            });
            self.operations += count - 1;
        }
    }

    fn operation(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer, &str)) {
        let (family, sequence) = (self.table.family.number(), self.first_sequence + self.messages);
        let name = &self.table.name;
        self.writer.message(kind, NLM_F_REQUEST | flags, sequence, (family, 0), |w| body(w, name));
        self.messages += 1;
        self.operations += 1;
    }

    fn bracket(&mut self, kind: u16) {
        let sequence = self.first_sequence + self.messages;
        self.writer.message(kind, NLM_F_REQUEST, sequence, (0, SUBSYSTEM), |_| {});
        self.messages += 1;
    }

    /// Closes the transaction: an acknowledgement of the last operation stands for all.
    pub(super) fn finish(mut self) -> Writer {
        self.writer.acknowledge_last();
        self.bracket(BATCH_END);
        self.writer
    }
}

/// Elements that come and go together: a range is its beginning and its end, anything else one element.
fn units(elements: &[Element]) -> HashSet<SmallVec<[&Element; 2]>> {
    let mut sorted: Vec<&Element> = elements.iter().collect();
    // Where one range ends, the next may begin.
    sorted.sort_by(|a, b| (&a.key, !a.interval_end).cmp(&(&b.key, !b.interval_end)));
    sorted.chunk_by(|_, next| next.interval_end).map(SmallVec::from_slice).collect()
}
