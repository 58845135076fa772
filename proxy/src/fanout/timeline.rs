//! Who answered when, in a bounded number of slices of time. Pure.

use std::time::Duration;

/// The most slices; when time goes on, each two become one.
const SLICES: usize = 64;
/// How long a slice is in the beginning.
const FIRST: Duration = Duration::from_millis(25);

/// Counts by slice of time and by endpoint, which is a small number.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    width: Duration,
    slices: Vec<Slice>,
}

/// What happened in a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    /// By number of endpoint; there may be fewer than there are endpoints.
    pub(super) answered: Vec<u64>,
    /// Connections that failed.
    pub(super) failed: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width: FIRST, slices: Vec::new() }
    }
}

impl Timeline {
    /// An endpoint answered, so long after the beginning.
    pub(super) fn answered(&mut self, at: Duration, endpoint: usize) {
        let answered = &mut self.slice(at).answered;
        if answered.len() <= endpoint {
            answered.resize(endpoint + 1, 0);
        }
        if let Some(count) = answered.get_mut(endpoint) {
            *count += 1;
        }
    }

    /// Something failed, so long after the beginning.
    pub(super) fn failed(&mut self, at: Duration) {
        self.slice(at).failed += 1;
    }

    /// How long a slice is.
    pub(super) fn width(&self) -> Duration {
        self.width
    }

    /// In order.
    pub(super) fn slices(&self) -> &[Slice] {
        &self.slices
    }

    fn slice(&mut self, at: Duration) -> &mut Slice {
        let mut index = self.index(at);
        while index >= SLICES {
            self.halve();
            index = self.index(at);
        }
        if self.slices.len() <= index {
            self.slices.resize_with(index + 1, Slice::default);
        }
        &mut self.slices[index]
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        self.width *= 2;
        self.slices = self.slices.chunks(2).map(Slice::sum).collect();
    }
}

impl Slice {
    fn sum(slices: &[Self]) -> Self {
        let mut sum = Self::default();
        for slice in slices {
            sum.failed += slice.failed;
            sum.answered.resize(sum.answered.len().max(slice.answered.len()), 0);
            sum.answered.iter_mut().zip(&slice.answered).for_each(|(sum, count)| *sum += count);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_slices_become_longer() {
        let mut timeline = Timeline::default();
        for millisecond in 0..10_000 {
            timeline.answered(Duration::from_millis(millisecond), usize::from(millisecond > 5_000));
            if millisecond % 10 == 0 {
                timeline.failed(Duration::from_millis(millisecond));
            }
        }
        assert!(timeline.slices().len() <= SLICES && timeline.width() == FIRST * 8);
        let of = |endpoint: usize| {
            timeline.slices().iter().filter_map(|slice| slice.answered.get(endpoint)).sum::<u64>()
        };
        assert_eq!((of(0), of(1)), (5_001, 4_999));
        assert_eq!(timeline.slices().iter().map(|slice| slice.failed).sum::<u64>(), 1_000);
        assert_eq!(timeline.slices()[0].answered, [200]);
    }

    #[test]
    fn a_long_pause_is_no_trouble() {
        let mut timeline = Timeline::default();
        timeline.answered(Duration::ZERO, 0);
        timeline.answered(Duration::from_secs(3_000_000), 3);
        assert!(timeline.slices().len() <= SLICES);
        assert_eq!(timeline.slices().last().map(|slice| slice.answered.clone()), Some(vec![0, 0, 0, 1]));
    }
}
