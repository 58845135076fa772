//! Taking in a list that replaces all objects of a kind: what it does not hold is gone.

use std::collections::{HashMap, HashSet};

use crate::object::{Kind, ObjectName};

/// The lists that are being taken in, each with the objects that have not turned up in it yet.
#[derive(Debug, Default)]
pub struct Relists(HashMap<Kind, HashSet<ObjectName>>);

impl Relists {
    /// A list begins, also when an earlier one of the kind was broken off.
    pub fn begin(&mut self, kind: Kind, known: HashSet<ObjectName>) {
        self.0.insert(kind, known);
    }

    /// The object is in the list.
    pub fn saw(&mut self, kind: Kind, name: &ObjectName) {
        if let Some(missing) = self.0.get_mut(&kind) {
            missing.remove(name);
        }
    }

    /// The list is complete; returns what was not in it.
    #[must_use]
    pub fn end(&mut self, kind: Kind) -> HashSet<ObjectName> {
        self.0.remove(&kind).unwrap_or_default()
    }
}
