//! The rules of one back end and family, as `iptables-save` prints them. What is not come to is not read closely.

use std::cell::OnceCell;
use std::collections::HashMap;

use kernel::iptables::{Backend, Iptables};

use super::rule::Rule;

/// A table, in the order in which packets meet them at most hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trace) enum Table {
    /// Before connections are tracked.
    Raw,
    /// What is changed of packets.
    Mangle,
    /// What addresses they get.
    Nat,
    /// Which of them pass.
    Filter,
}

impl Table {
    const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// What steps call a chain: bare in `nat`, where most of the way is.
    pub(super) fn place(self, chain: &str) -> String {
        match self {
            Self::Nat => chain.to_owned(),
            other => format!("{} {chain}", other.as_str()),
        }
    }
}

/// A chain with its rules.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: Box<str>,
    /// What becomes of packets at its end, if it is one of the kernel's own: `ACCEPT`.
    pub(super) policy: Option<Box<str>>,
    lines: Vec<Box<str>>,
    rules: OnceCell<Vec<Rule>>,
}

impl Chain {
    /// A rule, and its text without the chain.
    pub(super) fn rule(&self, at: usize) -> Option<(&Rule, &str)> {
        let rules = self.rules.get_or_init(|| self.lines.iter().map(|line| Rule::parse(line)).collect());
        Some((rules.get(at)?, self.lines.get(at)?))
    }
}

/// Everything of one back end.
#[derive(Debug, Default)]
pub(in crate::trace) struct Tables {
    chains: [HashMap<Box<str>, Chain>; 4],
    /// What is said of tables that cannot be listed.
    pub(super) foreign: Vec<String>,
}

impl Tables {
    /// Reads what there is of both back ends. One that is not installed, or not in use, is left out.
    pub(in crate::trace) fn read(ipv6: bool) -> Result<Vec<Self>, kernel::Error> {
        let mut found = Vec::new();
        for backend in Backend::BOTH {
            match Iptables::find(backend, ipv6) {
                Ok(programs) if backend.has_tables(ipv6)? => {
                    let mut tables = Self::default();
                    programs.list_all(|table, line| tables.take_in(table, line))?;
                    found.push(tables);
                }
                Ok(_) | Err(kernel::Error::NoProgram { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Whether there is a chain.
    pub(in crate::trace) fn has(&self, table: Table, chain: &str) -> bool {
        self.chain(table, chain).is_some()
    }

    pub(super) fn chain(&self, table: Table, chain: &str) -> Option<&Chain> {
        self.chains[table as usize].get(chain)
    }

    /// Takes in a line of a table's listing.
    pub(super) fn take_in(&mut self, table: &str, line: &str) {
        let known = Table::ALL.into_iter().find(|known| known.as_str() == table);
        if let (Some(table), Some(declared)) = (known, line.strip_prefix(':')) {
            let mut words = declared.split(' ');
            let chain = self.entry(table, words.next().unwrap_or_default());
            chain.policy = words.next().filter(|policy| *policy != "-").map(Into::into);
        } else if let (Some(table), Some(rule)) = (known, line.strip_prefix("-A ")) {
            let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            self.entry(table, chain).lines.push(rule.into());
        } else if line.starts_with("# Table ") && line.contains("incompatible") {
            self.foreign.push(format!("{} It is passed over.", line.trim_start_matches("# ")));
        }
    }

    fn entry(&mut self, table: Table, name: &str) -> &mut Chain {
        let chains = &mut self.chains[table as usize];
        chains.entry(name.into()).or_insert_with(|| Chain {
            name: name.into(),
            policy: None,
            lines: Vec::new(),
            rules: OnceCell::new(),
        })
    }
}

#[cfg(test)]
impl Tables {
    /// Reads a text as `iptables-save` prints it.
    pub(in crate::trace) fn parse(text: &str) -> Self {
        let (mut tables, mut table) = (Self::default(), "");
        for line in text.lines() {
            match line.strip_prefix('*') {
                Some(name) => table = name,
                None => tables.take_in(table, line),
            }
        }
        tables
    }
}
