//! One allocation for each distinct text.

use std::collections::HashSet;
use std::sync::Arc;

/// Below this many texts, sweeping is not worth it.
const SMALL: usize = 256;

/// Texts that many objects share: namespaces, port names, zones.
///
/// What nobody else holds any more is swept out whenever the number of texts has doubled since the last sweep.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Interner {
    /// The shared copy of a text.
    pub(crate) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return Arc::clone(shared);
        }
        if self.texts.len() >= self.sweep_at.max(SMALL) {
            self.texts.retain(|shared| Arc::strong_count(shared) > 1);
            self.sweep_at = 2 * self.texts.len();
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shared_and_swept() {
        let mut interner = Interner::default();
        let kept = interner.get("kept");
        for i in 0..10 * SMALL {
            interner.get(&i.to_string());
        }
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
        assert!(interner.texts.len() <= SMALL, "{} texts", interner.texts.len());
    }
}
