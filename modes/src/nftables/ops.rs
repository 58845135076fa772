//! What is to be done, in a form that can be looked at; and how it is written into batches.

use std::collections::{BTreeMap, HashMap};

use kernel::nft::{Batch, Bytes, Chain, Element, Fingerprint, Rule};

use super::found::Found;
use super::layout::SetName;

/// The elements that the kernel was read to hold.
pub(crate) type InstalledElements = HashMap<SetName, Found>;

/// Rough bytes of an element on the wire besides its key, value and comment.
const ELEMENT_OVERHEAD: usize = 48;
/// Rough bytes of a chain with four rules.
const CHAIN_SIZE: usize = 4096;

/// The chains that the kernel was read to hold, and the fingerprints of their rules.
pub(crate) type InstalledChains = HashMap<String, Vec<Option<Fingerprint>>>;

/// What is to be done: chains and what makes them reachable by number in a first transaction, all other elements in a
/// second.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    /// What was there before we began, less what was found to be wanted. Empty except in a resync.
    installed: InstalledElements,
    installed_chains: InstalledChains,
    /// A set that is to be emptied first.
    emptied: Option<SetName>,
    removed: BTreeMap<SetName, Vec<Element>>,
    added: BTreeMap<SetName, Vec<Element>>,
    chains: Vec<(Chain, Vec<Rule>)>,
    size: usize,
}

/// What stands in the kernel without use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftovers {
    pub(crate) chains: Vec<String>,
    /// The elements that led to them, and the maps they are in.
    pub(crate) leads: Vec<(SetName, Element)>,
}

impl Ops {
    /// Operations against what the kernel holds: what is there already need not be added.
    pub(crate) fn against(installed: InstalledElements, installed_chains: InstalledChains) -> Self {
        Self { installed, installed_chains, ..Self::default() }
    }

    /// Forgets whatever a set holds; what is added goes into an empty one.
    pub(crate) fn empty(&mut self, set: SetName) {
        self.emptied = Some(set);
    }

    pub(crate) fn add(&mut self, set: SetName, element: Element) {
        let installed = self.installed.get_mut(&set).and_then(|found| found.want(&element));
        match installed {
            Some(same) if *same == element => return,
            Some(other) => {
                let other = other.clone();
                self.remove(set, other);
            }
            None => {}
        }
        self.size += size(&element);
        self.added.entry(set).or_default().push(element);
    }

    pub(crate) fn remove(&mut self, set: SetName, element: Element) {
        self.size += size(&element);
        self.removed.entry(set).or_default().push(element);
    }

    /// Sees to it that a chain exists with these rules and no others.
    pub(crate) fn write_chain(&mut self, chain: Chain, rules: Vec<Rule>) {
        let same = self.installed_chains.remove(&chain.name).is_some_and(|installed| {
            installed.iter().copied().eq(rules.iter().map(|rule| Some(rule.fingerprint())))
        });
        if !same {
            self.size += CHAIN_SIZE * (1 + rules.len() / 4);
            self.chains.push((chain, rules));
        }
    }

    /// Removes the elements that the kernel held and nothing asked for; returns the chains and the elements that lead
    /// to them, which cannot go before these changes are in force.
    pub(crate) fn remove_unwanted(&mut self) -> Leftovers {
        let mut left = Leftovers {
            chains: std::mem::take(&mut self.installed_chains).into_keys().collect(),
            leads: Vec::new(),
        };
        for (set, found) in std::mem::take(&mut self.installed) {
            if set.leads_to_chains() {
                left.leads.extend(found.into_unwanted().map(|element| (set, element)));
            } else {
                found.into_unwanted().for_each(|element| self.remove(set, element));
            }
        }
        left
    }

    /// The elements to be removed.
    pub(crate) fn removed(&self) -> impl Iterator<Item = (SetName, &Element)> {
        self.removed.iter().flat_map(|(set, elements)| elements.iter().map(|element| (*set, element)))
    }

    /// The elements to be added.
    pub(crate) fn added(&self) -> impl Iterator<Item = (SetName, &Element)> {
        self.added.iter().flat_map(|(set, elements)| elements.iter().map(|element| (*set, element)))
    }

    /// The chains to be written, with their rules.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (&str, &[Rule])> {
        self.chains.iter().map(|(chain, rules)| (chain.name.as_str(), rules.as_slice()))
    }

    /// Hands over what has gathered once it may weigh `limit` bytes, to be a transaction of its own.
    pub(crate) fn split_off_over(&mut self, limit: usize) -> Option<Self> {
        (self.size > limit).then(|| {
            let rest = Self::against(
                std::mem::take(&mut self.installed),
                std::mem::take(&mut self.installed_chains),
            );
            std::mem::replace(self, rest)
        })
    }

    /// Writes the chains and the elements by which they have a number.
    ///
    /// They belong into a transaction before the one with the elements that lead to them: a packet that is under way
    /// while a transaction takes effect sees new elements at once, but chains as they were, and would fall through one
    /// that is new.
    pub(crate) fn encode_chains(&self, batch: &mut Batch) {
        for (chain, _) in &self.chains {
            batch.add_chain(chain);
        }
        for (chain, rules) in &self.chains {
            batch.flush_chain(&chain.name);
            rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
        }
        self.encode_sets(batch, SetName::leads_to_chains);
    }

    /// Writes all other elements.
    pub(crate) fn encode_elements(&self, batch: &mut Batch) {
        self.encode_sets(batch, |set| !set.leads_to_chains());
    }

    /// Removals first, so that a key may change its value.
    fn encode_sets(&self, batch: &mut Batch, wanted: impl Fn(SetName) -> bool) {
        if let Some(set) = self.emptied.filter(|set| wanted(*set)) {
            batch.flush_set(set.as_str());
        }
        for (set, elements) in self.removed.iter().filter(|(set, _)| wanted(**set)) {
            batch.delete_elements(set.as_str(), elements);
        }
        for (set, elements) in self.added.iter().filter(|(set, _)| wanted(**set)) {
            batch.add_elements(set.as_str(), elements);
        }
    }
}

fn size(element: &Element) -> usize {
    let key_end = element.key_end.as_ref().map_or(0, Bytes::len);
    let comment = element.comment.as_ref().map_or(0, String::len);
    ELEMENT_OVERHEAD + 2 * element.key.len() + key_end + comment
}
