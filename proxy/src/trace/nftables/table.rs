//! A table of rules: its chains, sets and elements.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Context as _;
use kernel::nft::{DataType, Element, InstalledSet, ListedChain, ListedRule, Nftables, Table};

use super::ranges;

/// What is asked of a table.
pub(super) trait Rules {
    /// Its name.
    fn name(&self) -> &str;
    /// Its chains.
    fn chains(&self) -> &[ListedChain];
    /// The rules of a chain, in order.
    fn rules(&mut self, chain: &str) -> anyhow::Result<Rc<[ListedRule]>>;
    /// What a set or map is like; `None` if there is none of that name.
    fn shape(&self, set: &str) -> Option<Rc<Shape>>;
    /// The element that a key finds, in registers' layout.
    fn find(&mut self, set: &str, key: &[u8]) -> anyhow::Result<Option<Element>>;
}

/// What a set or map is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of a key in registers' layout.
    pub(super) key_len: usize,
    /// Fields of the key, if their types have names.
    pub(super) key: Option<Vec<DataType>>,
    /// Fields of the value, if it maps to values of types with names.
    pub(super) value: Option<Vec<DataType>>,
    /// Whether it is a map.
    pub(super) is_map: bool,
    /// Whether elements are ranges.
    pub(super) is_interval: bool,
}

impl From<&InstalledSet> for Shape {
    fn from(set: &InstalledSet) -> Self {
        Self {
            key_len: set.key_len(),
            key: set.key(),
            value: set.value(),
            is_map: set.is_map(),
            is_interval: set.is_interval(),
        }
    }
}

/// A table in the kernel. Of its rules and elements those are read that are met.
pub(super) struct KernelTable {
    connection: Nftables,
    table: Table,
    chains: Vec<ListedChain>,
    sets: HashMap<String, Rc<Shape>>,
    rules: HashMap<String, Rc<[ListedRule]>>,
    /// The elements of sets of ranges, which cannot be asked for by a key.
    listed: HashMap<String, Vec<Element>>,
}

impl KernelTable {
    pub(super) fn read(table: Table) -> anyhow::Result<Self> {
        let mut connection = Nftables::open().context("cannot read nftables")?;
        let chains = connection.listed_chains(&table)?;
        let sets = connection.sets(&table)?;
        let sets = sets.iter().map(|set| (set.name.clone(), Rc::new(Shape::from(set)))).collect();
        Ok(Self { connection, table, chains, sets, rules: HashMap::new(), listed: HashMap::new() })
    }
}

impl Rules for KernelTable {
    fn name(&self) -> &str {
        &self.table.name
    }

    fn chains(&self) -> &[ListedChain] {
        &self.chains
    }

    fn rules(&mut self, chain: &str) -> anyhow::Result<Rc<[ListedRule]>> {
        if let Some(known) = self.rules.get(chain) {
            return Ok(Rc::clone(known));
        }
        let read: Rc<[_]> = self.connection.listed_rules(&self.table, chain)?.into();
        self.rules.insert(chain.to_owned(), Rc::clone(&read));
        Ok(read)
    }

    fn shape(&self, set: &str) -> Option<Rc<Shape>> {
        self.sets.get(set).map(Rc::clone)
    }

    fn find(&mut self, set: &str, key: &[u8]) -> anyhow::Result<Option<Element>> {
        let Some(shape) = self.sets.get(set) else { return Ok(None) };
        if !shape.is_interval {
            return Ok(self.connection.element(&self.table, set, key)?);
        }
        if !self.listed.contains_key(set) {
            let elements = self.connection.elements(&self.table, set)?;
            self.listed.insert(set.to_owned(), elements);
        }
        Ok(self.listed.get(set).and_then(|elements| ranges::find(elements, shape, key)).cloned())
    }
}
