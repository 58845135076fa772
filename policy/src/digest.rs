//! Names out of texts that users choose.

use sha2::{Digest, Sha256};

/// Bytes of a digest that a name keeps.
const BYTES: usize = 16;

/// A name that nobody can find a second text for: whoever may write policies chooses what goes into it, and is not to get
/// at the rules of others.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
}
