//! Input for `iptables-restore`, in the order in which it has to be applied.

use std::fmt::{self, Display, Write};

use kernel::iptables::{Table, plain};

use super::base::Shared;
use super::layout::{FixedChain, Hook};
use super::names::ChainName;
use super::service::OwnChain;

/// Parts of a script. Tables are separate transactions, so it matters which goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What refuses must be there before nobody translates any more.
    FilterFirst,
    /// Chains that others lead to.
    NatChains,
    /// Chains that service ports share.
    NatShared,
    /// What refuses may go only when somebody translates.
    FilterLast,
    Mangle,
}

impl Part {
    fn heading(self) -> &'static str {
        match self {
            Self::FilterFirst => "what refuses, before translation goes",
            Self::NatChains => "chains that others lead to",
            Self::NatShared => "chains that service ports share",
            Self::FilterLast => "what refuses, after translation has come",
            Self::Mangle => "the canary",
        }
    }
}

/// Which parts each transaction is made of.
const TRANSACTIONS: [(Table, &[Part]); 4] = [
    (Table::Filter, &[Part::FilterFirst]),
    (Table::Nat, &[Part::NatChains, Part::NatShared]),
    (Table::Filter, &[Part::FilterLast]),
    (Table::Mangle, &[Part::Mangle]),
];
const PARTS: usize = 5;
/// Rough bytes that the removal of a chain takes.
const REMOVAL: usize = 64;

/// How large a script may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Any size: fewer are better.
    Any,
    /// Pieces of about so many bytes are better.
    Pieces(usize),
    /// More than so many bytes are refused.
    AtMost(usize),
}

impl Size {
    fn piece(self) -> Option<usize> {
        match self {
            Self::Any => None,
            Self::Pieces(bytes) | Self::AtMost(bytes) => Some(bytes),
        }
    }

    /// Whether so many bytes can be one script.
    pub(super) fn allows(self, bytes: usize) -> bool {
        !matches!(self, Self::AtMost(most) if bytes > most)
    }
}

/// A chain to be removed. Ordered so that chains lead only to later ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Removed {
    /// A service port's.
    Own(ChainName),
    /// Another.
    Other(Table, String),
}

impl Removed {
    fn table(&self) -> Table {
        match self {
            Self::Own(_) => Table::Nat,
            Self::Other(table, _) => *table,
        }
    }
}

impl Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name) => name.fmt(f),
            Self::Other(_, name) => name.fmt(f),
        }
    }
}

/// A script under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    parts: [String; PARTS],
    /// Chains that nobody leads to any more.
    removed: Vec<Removed>,
    operations: usize,
}

impl Script {
    pub(crate) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Chains and rules that it makes, empties or removes.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    /// Rules that it writes into each table.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (Table, usize)> {
        let is_rule = |line: &&str| line.starts_with("-A ") || line.starts_with("-I ");
        TRANSACTIONS.into_iter().map(move |(table, parts)| {
            let lines = parts.iter().flat_map(|part| self.parts[*part as usize].lines());
            (table, lines.filter(is_rule).count())
        })
    }

    /// How many transactions it is.
    pub(crate) fn commits(&self) -> usize {
        self.transactions().count()
    }

    /// What `iptables-restore` is to read.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(self.parts.iter().map(String::len).sum::<usize>() + 256);
        self.transactions().for_each(|transaction| transaction.write(&mut text));
        text
    }

    fn transactions(&self) -> impl Iterator<Item = Transaction<'_>> {
        let all = TRANSACTIONS.into_iter().map(|(table, parts)| {
            let parts = parts.iter().map(|part| (*part, &*self.parts[*part as usize]));
            let parts: Vec<_> = parts.filter(|(_, text)| !text.is_empty()).collect();
            Transaction { table, parts, removed: Vec::new() }
        });
        let mut all: Vec<_> = all.collect();
        for removed in &self.removed {
            // The last of a table.
            let last = all.iter_mut().rfind(|transaction| transaction.table == removed.table());
            last.into_iter().for_each(|transaction| transaction.removed.push(removed));
        }
        all.into_iter().filter(|transaction| !transaction.parts.is_empty() || !transaction.removed.is_empty())
    }

    /// Says which service port the next chains belong to, for whoever has to find out why a line is refused.
    pub(super) fn about(&mut self, service: impl Display) {
        let _ = writeln!(self.parts[Part::NatChains as usize], "# {}", plain(&service.to_string()));
    }

    /// Writes a service port's own chain, whether it is there or not.
    pub(super) fn write_chain(&mut self, chain: &OwnChain) {
        self.write(Part::NatChains, chain.name, &chain.rules);
    }

    /// Removes a service port's own chain.
    pub(super) fn remove_chain(&mut self, name: &ChainName) {
        self.removed.push(Removed::Own(*name));
        self.operations += 1;
    }

    /// Removes another chain.
    pub(super) fn remove_other(&mut self, table: Table, chain: &str) {
        self.removed.push(Removed::Other(table, chain.to_owned()));
        self.operations += 1;
    }

    /// Takes a rule out of others' chain.
    pub(super) fn unhook(&mut self, table: Table, chain: &str, rule: &str) {
        self.line(last(table), format_args!("-D {chain} {rule}"));
    }

    /// Writes a chain that does not depend on services.
    pub(super) fn write_fixed(&mut self, chain: &FixedChain) {
        self.write(first(chain.table), chain.name, &chain.rules);
    }

    /// Makes an empty chain.
    pub(super) fn make(&mut self, table: Table, chain: &str) {
        self.empty(first(table), chain);
    }

    /// Puts a rule in front of others' in their chain.
    pub(super) fn hook(&mut self, hook: &Hook) {
        // Behind the chains that it leads to.
        let part = if hook.table == Table::Nat { Part::NatShared } else { first(hook.table) };
        self.line(part, format_args!("-I {} {}", hook.chain, hook.rule));
    }

    /// Adds a service port's rule to a shared chain: in front, where others must stay last.
    pub(super) fn add(&mut self, shared: Shared, rule: &str) {
        let (part, verb) = match shared {
            Shared::Services => (Part::NatShared, "-I"),
            Shared::NodePorts => (Part::NatShared, "-A"),
            _ => (Part::FilterFirst, "-A"),
        };
        self.line(part, format_args!("{verb} {} {rule}", shared.chain()));
    }

    /// Removes a rule from a shared chain.
    pub(super) fn remove(&mut self, shared: Shared, rule: &str) {
        self.line(last(shared.table()), format_args!("-D {} {rule}", shared.chain()));
    }

    /// Writes a shared chain anew.
    pub(super) fn rewrite<'a>(&mut self, shared: Shared, rules: impl IntoIterator<Item = &'a str>) {
        self.write(last(shared.table()), shared.chain(), rules);
    }

    /// Takes out the chains written so far if they are too much for one piece: nothing leads to the new ones among them
    /// yet, so they may go ahead.
    pub(super) fn split_off_chains(&mut self, size: Size) -> Option<Self> {
        let chains = &mut self.parts[Part::NatChains as usize];
        if size.piece().is_none_or(|piece| chains.len() <= piece) {
            return None;
        }
        let ahead = Self::of(Part::NatChains, std::mem::take(chains));
        self.operations -= ahead.operations;
        Some(ahead)
    }

    /// The same in pieces, if it is too much for one. Each leaves every packet a way.
    pub(crate) fn pieces(mut self, size: Size) -> Vec<Self> {
        let bytes: usize = self.parts.iter().map(String::len).sum();
        let Some(piece) = size.piece().filter(|piece| bytes + self.removed.len() * REMOVAL > *piece) else {
            return if self.is_empty() { Vec::new() } else { vec![self] };
        };
        // A chain goes no later than those that it leads to.
        self.removed.sort_unstable();
        let mut pieces = Vec::new();
        for part in TRANSACTIONS.iter().flat_map(|(_, parts)| *parts) {
            let blocks = split_text(&self.parts[*part as usize], piece);
            pieces.extend(blocks.into_iter().map(|text| Self::of(*part, text)));
        }
        let removals = self.removed.chunks((piece / REMOVAL).max(1));
        pieces.extend(removals.map(|removed| Self {
            removed: removed.to_vec(),
            operations: removed.len(),
            ..Self::default()
        }));
        pieces
    }

    fn of(part: Part, text: String) -> Self {
        let operations = text.lines().filter(|line| !line.starts_with('#')).count();
        let mut script = Self { operations, ..Self::default() };
        script.parts[part as usize] = text;
        script
    }

    fn write<'a>(
        &mut self,
        part: Part,
        chain: impl Display,
        rules: impl IntoIterator<Item = impl AsRef<str> + 'a>,
    ) {
        self.empty(part, &chain);
        for rule in rules {
            self.line(part, format_args!("-A {chain} {}", rule.as_ref()));
        }
    }

    /// Makes a chain if there is none, and empties it if there is.
    fn empty(&mut self, part: Part, chain: impl Display) {
        self.line(part, format_args!(":{chain} - [0:0]"));
    }

    fn line(&mut self, part: Part, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.parts[part as usize], "{line}");
        self.operations += 1;
    }
}

fn first(table: Table) -> Part {
    match table {
        Table::Filter => Part::FilterFirst,
        Table::Nat => Part::NatChains,
        Table::Mangle => Part::Mangle,
    }
}

fn last(table: Table) -> Part {
    match table {
        Table::Filter => Part::FilterLast,
        Table::Nat => Part::NatShared,
        Table::Mangle => Part::Mangle,
    }
}

/// What takes effect at once.
struct Transaction<'a> {
    table: Table,
    parts: Vec<(Part, &'a str)>,
    removed: Vec<&'a Removed>,
}

impl Transaction<'_> {
    fn write(&self, text: &mut String) {
        let Self { table, parts, removed } = self;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "*{table}");
        for (part, lines) in parts {
            // What comes is not about the service port that was named last.
            let _ = write!(text, "# {}\n{lines}", part.heading());
        }
        if !removed.is_empty() {
            text.push_str("# chains without use\n");
        }
        // All are emptied first, since they may lead to each other.
        removed.iter().for_each(|chain| text.push_str(&format!(":{chain} - [0:0]\n")));
        removed.iter().for_each(|chain| text.push_str(&format!("-X {chain}\n")));
        text.push_str("COMMIT\n");
    }
}

/// Splits a part of a script before it grows beyond `most` bytes, but nowhere within a chain that it writes.
fn split_text(text: &str, most: usize) -> Vec<String> {
    let (mut pieces, mut piece, mut chain) = (Vec::new(), String::new(), None);
    for line in text.split_inclusive('\n') {
        let word = |prefix: &str| line.strip_prefix(prefix)?.split_whitespace().next();
        let goes_on = chain.is_some() && word("-A ") == chain;
        if !goes_on {
            chain = word(":");
            if piece.len() > most {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        piece.push_str(line);
    }
    pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
    pieces
}
