//! What was measured: times, sizes and how they compare.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Figure {
    /// In seconds.
    Time(f64),
    /// In bytes.
    Size(f64),
    /// So many times as much.
    Ratio(f64),
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

    /// Adds how many times as long one thing takes as another.
    pub fn add_ratio(&mut self, who: &str, what: &str, time: Duration, other: Duration) {
        let ratio = time.as_secs_f64() / other.as_secs_f64();
        self.0.push((who.to_owned(), what.to_owned(), Figure::Ratio(ratio)));
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
