//! What others changed in what we programmed, and was put right.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Repairs that are remembered.
const REMEMBERED: usize = 16;

/// Repairs since the process started.
#[derive(Debug, Default)]
pub(crate) struct Drift(Mutex<Repairs>);

/// How often something had to be put right, and the last few times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Repairs {
    /// How often since the process started.
    pub(crate) count: u64,
    /// The last few, oldest first.
    pub(crate) last: VecDeque<Repair>,
}

/// A sync that put right what others had changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Repair {
    /// When it was in force.
    pub(crate) time: Timestamp,
    /// Who had changed what, as far as it is known.
    pub(crate) cause: String,
    /// Kernel operations that it took.
    pub(crate) operations: usize,
}

impl Drift {
    /// Something was put right just now.
    pub(crate) fn repaired(&self, cause: String, operations: usize) {
        let mut repairs = self.repairs();
        repairs.count += 1;
        if repairs.last.len() == REMEMBERED {
            repairs.last.pop_front();
        }
        repairs.last.push_back(Repair { time: Timestamp::now(), cause, operations });
    }

    /// How it stands.
    pub(crate) fn get(&self) -> Repairs {
        self.repairs().clone()
    }

    fn repairs(&self) -> MutexGuard<'_, Repairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_last_remembered() {
        let drift = Drift::default();
        (0..REMEMBERED + 2).for_each(|n| drift.repaired(n.to_string(), n));
        let repairs = drift.get();
        assert_eq!((repairs.count, repairs.last.len()), (REMEMBERED as u64 + 2, REMEMBERED));
        let ends = [repairs.last.front(), repairs.last.back()].map(|repair| repair.map(|it| it.operations));
        assert_eq!(ends, [Some(2), Some(REMEMBERED + 1)]);
    }
}
