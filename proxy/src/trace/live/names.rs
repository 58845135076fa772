//! What chains and rules are called, asked of the kernel once each.

use std::collections::HashMap;

use kernel::nft::{HookPoint, Table, Tracer};

/// Rules and chains remembered; more are asked for again.
const MOST: usize = 4096;

/// Asks what things are called. What the kernel does not tell has no name.
pub(super) struct Names {
    tracer: Tracer,
    hooks: HashMap<(Table, String), Option<HookPoint>>,
    /// Of rules. Handles are used only once.
    comments: HashMap<(Table, u64), Option<String>>,
}

impl Names {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { tracer, hooks: HashMap::new(), comments: HashMap::new() }
    }

    /// Where a base chain hangs.
    pub(super) fn hook(&mut self, table: &Table, chain: &str) -> Option<HookPoint> {
        let key = (table.clone(), chain.to_owned());
        if let Some(known) = self.hooks.get(&key) {
            return *known;
        }
        let found = self.tracer.hook(table, chain).ok().flatten();
        bound(&mut self.hooks);
        self.hooks.insert(key, found);
        found
    }

    /// A rule's comment.
    pub(super) fn comment(&mut self, table: &Table, chain: &str, handle: u64) -> Option<String> {
        let key = (table.clone(), handle);
        if let Some(known) = self.comments.get(&key) {
            return known.clone();
        }
        let found = self.tracer.comment(table, chain, handle).ok().flatten();
        bound(&mut self.comments);
        self.comments.insert(key, found.clone());
        found
    }
}

fn bound<K, V>(known: &mut HashMap<K, V>) {
    if known.len() >= MOST {
        known.clear();
    }
}
