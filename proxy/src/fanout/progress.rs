//! How it goes, for whoever watches a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::load::{Amount, Load};
use super::tally::Tally;

/// Endpoints whose share is shown.
const SHOWN: usize = 4;

/// A bar on stderr, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    amount: Amount,
    kept_alive: bool,
    /// Connections by endpoint when they were last shown.
    before: Vec<u64>,
}

impl Progress {
    pub(super) fn new(load: &Load) -> Self {
        let length = match load.amount {
            Amount::Count(count) => count,
            Amount::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        };
        let bar = if stderr().is_terminal() { ProgressBar::new(length) } else { ProgressBar::hidden() };
        // A template that is not understood leaves the bar as it is by default.
        if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/blue} {percent:>3} %  {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, amount: load.amount, kept_alive: load.kept_alive, before: Vec::new() }
    }

    /// After so long.
    pub(super) fn show(&mut self, tally: &Tally, elapsed: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        let done = if self.kept_alive { tally.replied } else { tally.answered };
        self.bar.set_position(match self.amount {
            Amount::Count(_) => done + tally.failed,
            Amount::Time(_) => u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
        let now: Vec<u64> = tally.shares.iter().map(|share| share.connections + share.requests).collect();
        let shares = shares(&self.before, &now);
        self.before = now;
        self.bar.set_message(format!("{rate:.0}/s, {} failed{shares}", tally.failed + tally.lost));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Who answered since it was last shown.
fn shares(before: &[u64], now: &[u64]) -> String {
    let more: Vec<u64> =
        now.iter().enumerate().map(|(index, count)| count - before.get(index).unwrap_or(&0)).collect();
    let all: u64 = more.iter().sum();
    let shares: Vec<_> = more
        .iter()
        .take(SHOWN)
        .filter_map(|count| Some(format!("{} %", (100 * count).checked_div(all)?)))
        .collect();
    let others = if more.len() > SHOWN { " ..." } else { "" };
    if shares.is_empty() { String::new() } else { format!(", shares {}{others}", shares.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_came_since() {
        assert_eq!(shares(&[10], &[13, 1]), ", shares 75 % 25 %");
        assert_eq!(shares(&[1, 1], &[1, 1]), "");
        assert_eq!(shares(&[], &[1, 1, 1, 1, 0]), ", shares 25 % 25 % 25 % 25 % ...");
    }
}
