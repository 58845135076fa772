//! Which connections under way go on without being judged anew: those whose mark bears a generation that is alive.
//!
//! Pure. The number is kept in some bits of the connection's mark, 0 for connections that nobody has judged.

use std::time::{Duration, Instant};

use crate::settings::Established;

/// The generations that are alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generations {
    mask: u32,
    /// What connections get that are allowed now: 1 to [`Generations::last`].
    current: u32,
    /// Earlier ones, and when they end.
    draining: Vec<(u32, Instant)>,
}

/// What a step to the next generation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Marks that are alive no longer.
    pub(crate) dead: Vec<u32>,
    /// Numbers begin anew: connections may bear the new one since long ago, and have to lose it first.
    pub(crate) begins_anew: bool,
}

impl Generations {
    /// Only this generation; the first if it is none.
    pub(crate) fn only(mask: u32, current: u32) -> Self {
        let mut generations = Self { mask, current: 1, draining: Vec::new() };
        if (1..=generations.last()).contains(&current) {
            generations.current = current;
        }
        generations
    }

    /// The same, with an earlier one that goes on for so long from now.
    pub(crate) fn with_draining(mut self, number: u32, now: Instant, time: Duration) -> Self {
        if (1..=self.last()).contains(&number) && number != self.current {
            self.draining.push((number, now + at_most_a_day(time)));
        }
        self
    }

    /// The generation that a mark bears; 0 if none.
    pub(crate) fn number(mask: u32, mark: u32) -> u32 {
        (mark & mask) >> mask.trailing_zeros()
    }

    fn last(&self) -> u32 {
        self.mask >> self.mask.trailing_zeros()
    }

    fn mark_of(&self, number: u32) -> u32 {
        number << self.mask.trailing_zeros()
    }

    /// What connections get that are allowed now, as bits of the mark.
    pub(crate) fn mark(&self) -> u32 {
        self.mark_of(self.current)
    }

    /// The marks of connections that go on without being judged.
    pub(crate) fn alive(&self) -> Vec<u32> {
        let draining = self.draining.iter().map(|(number, _)| *number);
        draining.chain([self.current]).map(|number| self.mark_of(number)).collect()
    }

    /// On to the next generation, since something is allowed no longer.
    pub(crate) fn advance(&mut self, established: Established, now: Instant) -> Step {
        let before = self.current;
        let begins_anew = before >= self.last();
        self.current = if begins_anew { 1 } else { before + 1 };
        let mut step = Step { dead: Vec::new(), begins_anew };
        match established {
            Established::Drain(time) if !begins_anew => {
                self.draining.push((before, now + at_most_a_day(time)));
            }
            _ => {
                let dead = std::mem::take(&mut self.draining).into_iter().map(|(number, _)| number);
                step.dead = dead.chain([before]).map(|number| number << self.mask.trailing_zeros()).collect();
            }
        }
        step
    }

    /// When the next generation ends.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.draining.iter().map(|(_, end)| *end).min()
    }

    /// Ends what is to have ended by now; the marks that were alive.
    pub(crate) fn end(&mut self, now: Instant) -> Vec<u32> {
        let (dead, alive) = self.draining.iter().partition(|(_, end)| *end <= now);
        self.draining = alive;
        let dead: Vec<(u32, Instant)> = dead;
        dead.into_iter().map(|(number, _)| self.mark_of(number)).collect()
    }
}

/// Clocks do not reach further than they must.
fn at_most_a_day(time: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    time.min(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 0x00f0;

    #[test]
    fn the_one_before_dies_at_once() {
        let mut generations = Generations::only(MASK, 1);
        assert_eq!(generations.alive(), [0x10]);
        let step = generations.advance(Established::Cut, Instant::now());
        assert_eq!((step.dead, step.begins_anew), (vec![0x10], false));
        assert_eq!(generations.alive(), [0x20]);
        assert_eq!(generations.due(), None);
    }

    #[test]
    fn numbers_begin_anew() {
        let mut generations = Generations::only(MASK, 15);
        let step = generations.advance(Established::Cut, Instant::now());
        assert_eq!((step.dead, step.begins_anew), (vec![0xf0], true));
        assert_eq!(generations.alive(), [0x10]);
        assert_eq!(Generations::only(MASK, 16).alive(), [0x10]);
        assert_eq!(Generations::number(MASK, 0xab_cd_ef_50), 5);
    }

    #[test]
    fn what_drained_before_drains_on() {
        let (now, time) = (Instant::now(), Duration::from_secs(10));
        let generations = Generations::only(MASK, 3);
        let generations =
            [2, 3, 0, 16].into_iter().fold(generations, |all, one| all.with_draining(one, now, time));
        assert_eq!(generations.alive(), [0x20, 0x30]);
        assert_eq!(generations.due(), Some(now + time));
    }

    #[test]
    fn what_drains_ends_in_time() {
        let (mut generations, now) = (Generations::only(MASK, 1), Instant::now());
        let drain = Established::Drain(Duration::from_secs(10));
        assert_eq!(generations.advance(drain, now).dead, [0; 0]);
        assert_eq!(generations.advance(drain, now + Duration::from_secs(5)).dead, [0; 0]);
        assert_eq!(generations.alive(), [0x10, 0x20, 0x30]);
        assert_eq!(generations.due(), Some(now + Duration::from_secs(10)));
        assert_eq!(generations.end(now + Duration::from_secs(9)), [0; 0]);
        assert_eq!(generations.end(now + Duration::from_secs(10)), [0x10]);
        assert_eq!(generations.alive(), [0x20, 0x30]);
        // All end when numbers begin anew.
        let mut last = Generations { current: 15, ..generations };
        assert_eq!(last.advance(drain, now).dead, [0x20, 0xf0]);
        assert_eq!(last.alive(), [0x10]);
    }
}
