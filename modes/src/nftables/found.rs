//! The elements that a set was found to hold, to be compared with what it should hold.

use kernel::nft::{Bytes, Element};

/// Elements in the order of their keys. (A hash table of a hundred thousand would take three times the memory, at the
/// very moment when a process starts.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    elements: Vec<Element>,
    /// Which of them something has asked for.
    wanted: Vec<bool>,
}

impl Found {
    pub(crate) fn new(mut elements: Vec<Element>) -> Self {
        elements.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let wanted = vec![false; elements.len()];
        Self { elements, wanted }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Element> {
        self.elements.iter()
    }

    /// The element that has the key of this one, if it has not been asked for before.
    pub(crate) fn want(&mut self, element: &Element) -> Option<&Element> {
        let at = self.elements.binary_search_by(|found| key(found).cmp(&key(element))).ok()?;
        (!std::mem::replace(&mut self.wanted[at], true)).then(|| &self.elements[at])
    }

    /// Those that nothing has asked for.
    pub(crate) fn into_unwanted(self) -> impl Iterator<Item = Element> {
        self.elements.into_iter().zip(self.wanted).filter(|(_, wanted)| !wanted).map(|(element, _)| element)
    }
}

/// What tells an element from the others of its set: in interval sets, both ends.
fn key(element: &Element) -> (&Bytes, &Option<Bytes>) {
    (&element.key, &element.key_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u8, last: u8) -> Element {
        Element { key: [first][..].into(), key_end: Some([last][..].into()), ..Element::default() }
    }

    #[test]
    fn elements_are_told_apart_by_both_ends_and_what_nobody_wants_is_left() {
        let mut found = Found::new(vec![range(3, 4), range(1, 9), range(1, 2)]);
        assert_eq!(found.want(&range(1, 2)), Some(&range(1, 2)));
        assert_eq!(found.want(&range(1, 2)), None, "it is there once");
        assert_eq!(found.want(&range(1, 3)), None);
        assert_eq!(found.want(&range(3, 4)), Some(&range(3, 4)));
        assert_eq!(found.iter().count(), 3);
        assert_eq!(found.into_unwanted().collect::<Vec<_>>(), [range(1, 9)]);
    }
}
