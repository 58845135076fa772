//! What was measured: times, sizes and how they compare.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::thousands;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Figure {
    /// In seconds.
    Time(f64),
    /// In bytes.
    Size(f64),
    /// So many times as much.
    Ratio(f64),
    /// So many.
    Count(usize),
}

/// What one run measured: who, what, and how much.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures(pub(crate) Vec<(String, String, Figure)>);

impl Figures {
    /// Adds a time.
    pub fn add(&mut self, who: &str, what: &str, time: Duration) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Time(time.as_secs_f64())));
    }

    /// Adds a number of bytes.
    pub fn add_bytes(&mut self, who: &str, what: &str, bytes: f64) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Size(bytes)));
    }

    /// Adds a number of things.
    pub fn add_count(&mut self, who: &str, what: &str, count: usize) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Count(count)));
    }

    /// Adds how many times as much something is.
    pub fn add_times(&mut self, who: &str, what: &str, times: f64) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Ratio(times)));
    }

    /// Adds what another run measured.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Who, what, and how much, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> &[(String, String, Figure)] {
        &self.0
    }

    /// Adds how many times as long one thing takes as another.
    pub fn add_ratio(&mut self, who: &str, what: &str, time: Duration, other: Duration) {
        self.add_times(who, what, time.as_secs_f64() / other.as_secs_f64());
    }
}

/// Half of them took no longer.
#[must_use]
pub fn median(times: &mut [Duration]) -> Duration {
    quantile(times, 50)
}

/// All but one in a hundred took no longer.
#[must_use]
pub fn p99(times: &mut [Duration]) -> Duration {
    quantile(times, 99)
}

fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Time(seconds) if seconds < 1e-3 => write!(f, "{} us", digits(seconds * 1e6)),
            Self::Time(seconds) if seconds < 1.0 => write!(f, "{} ms", digits(seconds * 1e3)),
            Self::Time(seconds) => write!(f, "{} s", digits(seconds)),
            Self::Size(bytes) => write!(f, "{} MB", digits(bytes / 1e6)),
            Self::Ratio(ratio) => write!(f, "{} x", digits(ratio)),
            Self::Count(count) => f.write_str(&thousands(count as f64)),
        }
    }
}

/// Three significant digits, more or less.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
