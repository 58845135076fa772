//! Saying something that happens often once in a while.

use std::time::Duration;

use super::clock::Moment;

/// How far apart.
const APART: Duration = Duration::from_secs(10);

/// Lets one of many messages through, and knows how many there were.
#[derive(Debug, Default)]
pub(super) struct Sparingly {
    last: Option<Moment>,
    count: u64,
}

impl Sparingly {
    /// How often it happened since it was said last, if it is time to say it.
    pub(super) fn count(&mut self, now: Moment) -> Option<u64> {
        self.count += 1;
        if self.last.is_some_and(|last| now.since(last) < APART) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_others_together() {
        let mut sparingly = Sparingly::default();
        let counts = [0, 1, 9_999, 10_000, 10_001].map(|now| sparingly.count(Moment::from_millis(now)));
        assert_eq!(counts, [Some(1), None, None, Some(3), None]);
    }
}
