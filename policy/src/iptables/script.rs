//! Input for `iptables-restore`: what changes of table filter, at once.

use std::fmt::Write;

use kernel::iptables::plain;

use super::rules;

/// A script under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    chains: String,
    rules: String,
    hooks: String,
    removed: Vec<String>,
    operations: usize,
}

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Chains and rules that it writes or removes.
    pub(super) fn operations(&self) -> usize {
        self.operations
    }

    /// Says what the next rules are about, for whoever has to find out why a line is refused.
    pub(super) fn about(&mut self, what: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.rules, "# {}", plain(what));
    }

    /// Writes a chain whole, whether it is there or not.
    pub(super) fn write<'a>(&mut self, chain: &str, rules: impl IntoIterator<Item = &'a String>) {
        let _ = writeln!(self.chains, ":{chain} - [0:0]");
        self.operations += 1;
        rules.into_iter().for_each(|rule| self.append(chain, rule));
    }

    /// Adds a rule at the end of a chain.
    pub(super) fn append(&mut self, chain: &str, rule: &str) {
        let _ = writeln!(self.rules, "-A {chain} {rule}");
        self.operations += 1;
    }

    /// Takes a rule out of a chain.
    pub(super) fn delete(&mut self, chain: &str, rule: &str) {
        let _ = writeln!(self.hooks, "-D {chain} {rule}");
        self.operations += 1;
    }

    /// Puts the rules that lead to us before all others.
    pub(super) fn hook(&mut self) {
        for (chain, rule) in rules::hooks().iter().rev() {
            let _ = writeln!(self.hooks, "-I {chain} {rule}");
            self.operations += 1;
        }
    }

    /// Removes a chain that nothing leads to any more.
    pub(super) fn remove(&mut self, chain: String) {
        self.removed.push(chain);
        self.operations += 1;
    }

    /// Takes up another script, to take effect at the same moment.
    pub(super) fn extend(&mut self, other: Self) {
        self.chains += &other.chains;
        self.rules += &other.rules;
        self.hooks += &other.hooks;
        self.removed.extend(other.removed);
        self.operations += other.operations;
    }

    pub(super) fn text(&self) -> String {
        let Self { chains, rules, hooks, removed, .. } = self;
        let mut text = format!("*filter\n{chains}{rules}# how packets come to network policies\n{hooks}");
        // All are emptied first, since they may lead to each other.
        removed.iter().for_each(|chain| text += &format!(":{chain} - [0:0]\n"));
        removed.iter().for_each(|chain| text += &format!("-X {chain}\n"));
        text + "COMMIT\n"
    }
}
