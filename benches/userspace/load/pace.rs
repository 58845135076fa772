use std::time::{Duration, Instant};

/// When the next thing is to be begun.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as fewer than so many are under way.
    Closed(usize),
    /// So long after the one before, whatever became of that.
    Every(Duration),
}

/// A pace that is being kept.
pub(crate) struct Paced {
    pace: Pace,
    next: Instant,
}

impl Paced {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, next: Instant::now() }
    }

    /// Since when another one is due, if it is.
    pub(crate) fn due(&mut self, under_way: usize) -> Option<Instant> {
        let now = Instant::now();
        match self.pace {
            Pace::Closed(limit) => (under_way < limit).then_some(now),
            Pace::Every(interval) => {
                let due = self.next;
                (due <= now).then(|| {
                    self.next += interval;
                    due
                })
            }
        }
    }

    /// When to look again, whatever happens; at this moment at the latest.
    pub(crate) fn until(&self, end: Instant) -> Instant {
        match self.pace {
            Pace::Closed(_) => end,
            Pace::Every(_) => self.next.min(end),
        }
    }
}
