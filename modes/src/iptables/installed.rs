//! What the kernel holds, as far as it is ours.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kernel::Error;
use kernel::iptables::{Backend, Iptables, SavedLine, Table};

use super::names::ChainName;

/// Every chain of ours and every chain that others' packets come through.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// Chains of service ports: a hundred thousand of them, so only a fingerprint of what they hold.
    pub(super) own: HashMap<ChainName, Fingerprint>,
    /// Other chains whose name begins like ours, with their rules; of other chains, the rules that lead to those.
    others: HashMap<(Table, String), Vec<String>>,
}

/// What tells the contents of two chains apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(rules: &[String]) -> Self {
        let mut fingerprint = Self::default();
        rules.iter().for_each(|rule| fingerprint.add(rule));
        fingerprint
    }

    fn add(&mut self, rule: &str) {
        let mut hasher = DefaultHasher::new();
        (self.0, rule).hash(&mut hasher);
        self.0 = hasher.finish();
    }
}

/// How the names of our chains begin.
const OURS: &str = "KUBE-";

impl Installed {
    /// Reads the tables that we have chains in.
    pub(crate) fn read(iptables: &Iptables) -> Result<Self, Error> {
        let mut installed = Self::default();
        match iptables.backend() {
            // All at once takes one run instead of three.
            Backend::Legacy => iptables.save_all(|table, line| installed.take_in(table, line))?,
            // All at once passes over a table that iptables-nft cannot read, as if it were empty.
            Backend::Nft => {
                for table in Table::ALL {
                    iptables.save(table, |line| installed.take_in(table, line))?;
                }
            }
        }
        Ok(installed)
    }

    pub(super) fn take_in(&mut self, table: Table, line: SavedLine<'_>) {
        let own = |chain| if table == Table::Nat { ChainName::parse(chain) } else { None };
        match line {
            SavedLine::Chain(chain) => match own(chain) {
                Some(name) => drop(self.own.entry(name).or_default()),
                None if chain.starts_with(OURS) => drop(self.rules_mut(table, chain)),
                None => {}
            },
            SavedLine::Rule { chain, rule } => match own(chain) {
                Some(name) => self.own.entry(name).or_default().add(rule),
                None if chain.starts_with(OURS) || rule.contains(OURS) => {
                    self.rules_mut(table, chain).push(rule.to_owned());
                }
                None => {}
            },
        }
    }

    /// Whether service ports have chains.
    pub(crate) fn serves(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether a chain is there and a service port's.
    pub(super) fn has_own(&self, table: Table, chain: &str) -> bool {
        table == Table::Nat && ChainName::parse(chain).is_some_and(|name| self.own.contains_key(&name))
    }

    /// The rules of a chain, `None` if there is no such chain.
    pub(super) fn rules(&self, table: Table, chain: &str) -> Option<&[String]> {
        self.others.get(&(table, chain.to_owned())).map(Vec::as_slice)
    }

    /// Whether a chain has a rule.
    pub(super) fn has(&self, table: Table, chain: &str, rule: &str) -> bool {
        self.rules(table, chain).is_some_and(|rules| rules.iter().any(|found| found == rule))
    }

    /// Chains that belong to no service port, and those of others' that lead to them, with these rules.
    pub(super) fn others(&self) -> impl Iterator<Item = (Table, &str, &[String])> {
        self.others.iter().map(|((table, chain), rules)| (*table, chain.as_str(), rules.as_slice()))
    }

    fn rules_mut(&mut self, table: Table, chain: &str) -> &mut Vec<String> {
        self.others.entry((table, chain.to_owned())).or_default()
    }
}
