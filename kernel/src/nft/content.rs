//! A table as it should be, and what makes the kernel's so.
//!
//! A table that is there is mended in place. Were it removed and made anew, then even in one transaction a packet could slip
//! through: the new base chain stands before the old one at the same hook, each is empty in the other's generation, and a packet
//! that meets the two on both sides of the commit meets no rule. And of a map that goes, the elements are gone at once, for
//! packets too that still follow the old rules.

use std::collections::{HashMap, HashSet};

use super::batch::Batch;
use super::connection::Nftables;
use super::read::InstalledSet;
use super::rule::{Fingerprint, Rule};
use super::types::{Chain, Element, Set, Table};
use crate::Error;

/// All that a table should hold.
#[derive(Clone, Debug)]
pub struct Content {
    /// What the table is for, shown by `nft list`.
    pub comment: &'static str,
    /// Sets and maps, with their elements.
    pub sets: Vec<(Set, Vec<Element>)>,
    /// Chains, with their rules in order.
    pub chains: Vec<(Chain, Vec<Rule>)>,
}

/// What a table was read to hold.
#[derive(Clone, Debug)]
pub struct Installed {
    chains: HashMap<String, InstalledChain>,
    sets: HashMap<String, (InstalledSet, Vec<Element>)>,
}

#[derive(Clone, Debug)]
struct InstalledChain {
    chain: Chain,
    rules: Vec<Option<Fingerprint>>,
}

/// What makes a table what it should be.
pub struct Mending {
    /// Empty if the table is so already.
    pub batch: Batch,
    /// The first thing found that is not as it should be, in words.
    pub difference: Option<String>,
}

impl Nftables {
    /// Reads all that a table holds; `None` if there is no such table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn installed(&mut self, table: &Table) -> Result<Option<Installed>, Error> {
        if !self.tables()?.contains(table) {
            return Ok(None);
        }
        let mut installed = Installed { chains: HashMap::new(), sets: HashMap::new() };
        for chain in self.chains(table)? {
            let name = chain.name.clone();
            installed.chains.insert(name, InstalledChain { chain, rules: Vec::new() });
        }
        for rule in self.rules(table)? {
            if let Some(chain) = installed.chains.get_mut(&rule.chain) {
                chain.rules.push(rule.fingerprint);
            }
        }
        for set in self.sets(table)? {
            let elements = self.elements(table, &set.name)?;
            installed.sets.insert(set.name.clone(), (set, elements));
        }
        Ok(Some(installed))
    }
}

impl Content {
    /// What turns a table that was found so into this one, or makes it where there is none.
    ///
    /// It is replaced whole only if a set or a base chain of the same name has another shape.
    #[must_use]
    pub fn mending(&self, table: &Table, installed: Option<&Installed>) -> Mending {
        let mut mending = Mending { batch: Batch::new(table.clone()), difference: None };
        let Some(installed) = installed else {
            mending.note(|| "there is none".to_owned());
            self.write(&mut mending.batch);
            return mending;
        };
        if let Some(other) = self.of_another_shape(installed) {
            mending.note(|| format!("{other} has another shape"));
            mending.batch.delete_table();
            self.write(&mut mending.batch);
            return mending;
        }
        self.add_what_is_missing(installed, &mut mending);
        self.write_rules(installed, &mut mending);
        self.put_elements_right(installed, &mut mending);
        self.remove_others(installed, &mut mending);
        mending
    }

    fn write(&self, batch: &mut Batch) {
        batch.add_table(self.comment);
        self.sets.iter().for_each(|(set, _)| batch.add_set(set));
        self.chains.iter().for_each(|(chain, _)| batch.add_chain(chain));
        for (chain, rules) in &self.chains {
            rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
        }
        self.sets.iter().for_each(|(set, elements)| batch.add_elements(&set.name, elements));
    }

    /// What keeps a name of ours and cannot be changed.
    fn of_another_shape(&self, installed: &Installed) -> Option<String> {
        let other_set = |set: &&Set| installed.sets.get(&set.name).is_some_and(|(found, _)| !found.is(set));
        let other_chain = |chain: &&Chain| {
            installed.chains.get(&chain.name).is_some_and(|found| found.chain.hook != chain.hook)
        };
        let set = self.sets.iter().map(|(set, _)| set).find(other_set);
        let chain = || self.chains.iter().map(|(chain, _)| chain).find(other_chain);
        set.map(|set| format!("set {}", set.name))
            .or_else(|| chain().map(|chain| format!("chain {}", chain.name)))
    }

    fn add_what_is_missing(&self, installed: &Installed, mending: &mut Mending) {
        for (set, _) in self.sets.iter().filter(|(set, _)| !installed.sets.contains_key(&set.name)) {
            mending.note(|| format!("set {} is missing", set.name));
            mending.batch.add_set(set);
        }
        let missing = |(chain, _): &&(Chain, _)| !installed.chains.contains_key(&chain.name);
        for (chain, _) in self.chains.iter().filter(missing) {
            mending.note(|| format!("chain {} is missing", chain.name));
            mending.batch.add_chain(chain);
        }
    }

    fn write_rules(&self, installed: &Installed, mending: &mut Mending) {
        for (chain, rules) in &self.chains {
            let found = installed.chains.get(&chain.name).map_or(&[][..], |found| &found.rules);
            if rules.iter().map(|rule| Some(rule.fingerprint())).eq(found.iter().copied()) {
                continue;
            }
            mending.note(|| format!("chain {} is not as it should be", chain.name));
            if !found.is_empty() {
                mending.batch.flush_chain(&chain.name);
            }
            rules.iter().for_each(|rule| mending.batch.add_rule(&chain.name, rule));
        }
    }

    fn put_elements_right(&self, installed: &Installed, mending: &mut Mending) {
        for (set, elements) in &self.sets {
            let found = installed.sets.get(&set.name).map_or(&[][..], |(_, found)| found);
            let (others, missing) = mending.batch.replace_elements(&set.name, found, elements);
            if others + missing > 0 {
                mending.note(|| format!("set {} lacks {missing} elements and has {others} others", set.name));
            }
        }
    }

    /// Whatever else there is goes: first what refers to something.
    fn remove_others(&self, installed: &Installed, mending: &mut Mending) {
        let ours: HashSet<&str> = self.chains.iter().map(|(chain, _)| chain.name.as_str()).collect();
        let chains: Vec<&str> =
            installed.chains.keys().map(String::as_str).filter(|found| !ours.contains(found)).collect();
        for chain in &chains {
            mending.note(|| format!("chain {chain} is not ours"));
            mending.batch.flush_chain(chain);
        }
        let ours: HashSet<&str> = self.sets.iter().map(|(set, _)| set.name.as_str()).collect();
        for set in installed.sets.keys().filter(|found| !ours.contains(found.as_str())) {
            mending.note(|| format!("set {set} is not ours"));
            mending.batch.delete_set(set);
        }
        chains.into_iter().for_each(|chain| mending.batch.delete_chain(chain));
    }
}

impl Mending {
    fn note(&mut self, difference: impl FnOnce() -> String) {
        let table = self.batch.table();
        self.difference.get_or_insert_with(|| format!("table {table}: {}", difference()));
    }
}
