//! A port of its own for everything that listens.
//!
//! Which port it is follows from the key alone, as far as two keys do not want the same one: the next process gives the
//! same ports to the same keys, in whatever order they once came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

/// Ports of a range, assigned to keys. What a key displays as must tell it from all others.
#[derive(Clone, Debug)]
pub struct Ports<K> {
    range: RangeInclusive<u16>,
    assigned: BTreeMap<K, u16>,
    taken: BTreeSet<u16>,
    /// What other programs have.
    refused: BTreeSet<u16>,
}

impl<K: Clone + Display + Ord> Ports<K> {
    /// All ports of the range are free; an empty range has none.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, assigned: BTreeMap::new(), taken: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// The same, with what was assigned earlier. What is outside of the range, or there twice, is left out.
    #[must_use]
    pub fn with_known(range: RangeInclusive<u16>, known: impl IntoIterator<Item = (K, u16)>) -> Self {
        let mut ports = Self::new(range);
        for (key, port) in known {
            let usable = ports.range.contains(&port) && !ports.taken.contains(&port);
            if usable && !ports.assigned.contains_key(&key) {
                ports.enter(key, port);
            }
        }
        ports
    }

    /// The port of a key, if it has one.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<u16> {
        self.assigned.get(key).copied()
    }

    /// The port that a key has, or a free one from now on. `None` when none is free.
    pub fn assign(&mut self, key: &K) -> Option<u16> {
        if let Some(port) = self.get(key) {
            return Some(port);
        }
        let port = self.free(key)?;
        self.enter(key.clone(), port);
        Some(port)
    }

    /// Gives a key this port, of the range or not, if it is free and the key has none. Says whether the key has it now.
    pub fn assign_exactly(&mut self, key: &K, port: u16) -> bool {
        if let Some(has) = self.get(key) {
            return has == port;
        }
        let is_free = self.is_free(port);
        if is_free {
            self.enter(key.clone(), port);
        }
        is_free
    }

    /// [Assigns](Self::assign) ports to keys, in their own order, so that it does not matter in which they are given.
    /// Those for which none is free go without.
    pub fn assign_all(&mut self, keys: impl IntoIterator<Item = K>) {
        let keys: BTreeSet<K> = keys.into_iter().collect();
        keys.iter().for_each(|key| _ = self.assign(key));
    }

    /// Another program has a port: nobody gets it, and the key that had it gets another. `None` when none is free.
    pub fn refuse(&mut self, key: &K, port: u16) -> Option<u16> {
        self.refused.insert(port);
        if self.get(key) == Some(port) {
            self.release(key);
        }
        self.assign(key)
    }

    /// A key is gone, and its port is free.
    pub fn release(&mut self, key: &K) {
        if let Some(port) = self.assigned.remove(key) {
            self.taken.remove(&port);
        }
    }

    /// Every key with its port, sorted by key.
    pub fn assigned(&self) -> impl Iterator<Item = (&K, u16)> {
        self.assigned.iter().map(|(key, port)| (key, *port))
    }

    fn enter(&mut self, key: K, port: u16) {
        self.assigned.insert(key, port);
        self.taken.insert(port);
    }

    /// The first one that is free, from the preferred one on, and around.
    fn free(&self, key: &K) -> Option<u16> {
        let preferred = self.preferred(key)?;
        let (first, last) = (*self.range.start(), *self.range.end());
        (preferred..=last).chain(first..preferred).find(|port| self.is_free(*port))
    }

    fn is_free(&self, port: u16) -> bool {
        !self.taken.contains(&port) && !self.refused.contains(&port)
    }

    fn preferred(&self, key: &K) -> Option<u16> {
        let count = self.range.end().checked_sub(*self.range.start())?;
        let digest = Sha256::digest(key.to_string());
        let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let offset = u16::try_from(number % (u64::from(count) + 1)).ok()?;
        Some(self.range.start() + offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Something that may be done with a key.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Assign(u8),
        Refuse(u8),
        Release(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..12).prop_map(Step::Assign),
            1 => (0u8..12).prop_map(Step::Refuse),
            2 => (0u8..12).prop_map(Step::Release),
        ]
    }

    fn range() -> impl Strategy<Value = RangeInclusive<u16>> {
        (0u16..=u16::MAX, 0u16..20).prop_map(|(first, more)| first..=first.saturating_add(more))
    }

    proptest! {
        #[test]
        fn nobody_shares_a_port_and_everybody_keeps_it(
            range in range(),
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut ports = Ports::new(range.clone());
            let mut held: BTreeMap<u8, u16> = BTreeMap::new();
            let mut refused: HashSet<u16> = HashSet::new();
            for step in steps {
                let (key, got) = match step {
                    Step::Assign(key) => (key, ports.assign(&key)),
                    Step::Refuse(key) => {
                        let Some(port) = held.remove(&key) else { continue };
                        refused.insert(port);
                        (key, ports.refuse(&key, port))
                    }
                    Step::Release(key) => {
                        ports.release(&key);
                        held.remove(&key);
                        prop_assert_eq!(ports.get(&key), None);
                        continue;
                    }
                };
                match (held.get(&key), got) {
                    (Some(had), got) => prop_assert_eq!(got, Some(*had)),
                    (None, Some(got)) => {
                        prop_assert!(range.contains(&got) && !refused.contains(&got));
                        prop_assert!(held.values().all(|port| *port != got));
                        held.insert(key, got);
                    }
                    (None, None) => prop_assert_eq!(held.len() + refused.len(), range.len()),
                }
                prop_assert!(ports.assigned().eq(held.iter().map(|(key, port)| (key, *port))));
            }
        }

        #[test]
        fn the_order_of_a_batch_does_not_matter(
            range in range(),
            mut keys in proptest::collection::btree_set(any::<u8>(), 0..30).prop_map(Vec::from_iter),
        ) {
            let mut ports = Ports::new(range.clone());
            ports.assign_all(keys.clone());
            keys.reverse();
            let mut again = Ports::new(range.clone());
            again.assign_all(keys.clone());
            prop_assert!(ports.assigned().eq(again.assigned()));
            prop_assert_eq!(ports.assigned().count(), keys.len().min(range.len()));
        }

        #[test]
        fn what_is_known_stays(
            range in range(),
            known in proptest::collection::btree_map(0u8..12, any::<u16>(), 0..12),
            key in 0u8..12,
        ) {
            let mut ports = Ports::with_known(range.clone(), known.clone());
            let before: Vec<_> = ports.assigned().map(|(key, port)| (*key, port)).collect();
            prop_assert!(before.iter().all(|(key, port)| known[key] == *port && range.contains(port)));
            ports.assign(&key);
            prop_assert!(before.iter().all(|(key, port)| ports.get(key) == Some(*port)));
        }
    }

    #[test]
    fn the_port_follows_from_the_key() {
        let mut ports = Ports::new(1024..=65_535);
        let assigned = ["default/web:http tcp", "default/web:https tcp"].map(|key| ports.assign(&key));
        // Another value would give other ports to whoever has them written down.
        assert_eq!(assigned, [Some(54_377), Some(23_679)]);
    }

    #[test]
    fn a_key_may_ask_for_a_port() {
        let mut ports = Ports::new(10..=11);
        assert!(ports.assign_exactly(&"a", 5432) && ports.assign_exactly(&"a", 5432));
        assert!(!ports.assign_exactly(&"b", 5432), "a has it");
        assert!(!ports.assign_exactly(&"a", 10), "it has another");
        assert_eq!(ports.assign(&"a"), Some(5432));
        let other = ports.refuse(&"a", 5432).unwrap();
        assert!((10..=11).contains(&other) && !ports.assign_exactly(&"b", 5432), "another program has it");
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is asked")]
    fn an_empty_range_has_no_port() {
        assert_eq!(Ports::new(10..=9).assign(&"a"), None);
    }
}
