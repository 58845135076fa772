//! Lengths of time as Go writes them: `1h30m0s`, `250ms`, `-1s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, possibly negative, 292 years at most: Go's `time.Duration` and Kubernetes' `metav1.Duration`. In
/// nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

const SECOND: i64 = 1_000_000_000;

impl GoDuration {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// Whether it is nothing, which in a configuration often stands for the default.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same, unless it is negative.
    #[must_use]
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time such as 30s or 1m30s")]
pub struct NoDuration(String);

impl FromStr for GoDuration {
    type Err = NoDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        nanoseconds(text.trim()).map(Self).ok_or_else(|| NoDuration(text.to_owned()))
    }
}

/// A sign or none, then numbers with or without a fraction, each with its unit; or 0 alone (Go's `time.ParseDuration`).
fn nanoseconds(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let mut rest = unsigned.unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map(|end| number + end);
        let unit = unit.unwrap_or(rest.len());
        total = total.checked_add(part(&rest[..number], &rest[number..unit])?)?;
        rest = &rest[unit..];
    }
    let is_something = unsigned.unwrap_or(text).len() > 1;
    i64::try_from(sign * total).ok().filter(|_| is_something)
}

fn part(number: &str, unit: &str) -> Option<i128> {
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Longer numbers are out of bounds, or make no difference.
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let fraction = fraction.get(..fraction.len().min(18))?;
    let places = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    if whole.is_empty() && fraction.is_empty() || whole.len() > 18 {
        return None;
    }
    digits(whole)?.checked_mul(scale)?.checked_add(digits(fraction)?.checked_mul(scale)? / places)
}

impl fmt::Display for GoDuration {
    /// As Go's `time.Duration` prints itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let length = Duration::from_nanos(self.0.unsigned_abs());
        if length.is_zero() {
            return f.write_str("0s");
        }
        if length < Duration::from_secs(1) {
            // Rust writes 250ms, 1.5µs and 3ns as Go does.
            return write!(f, "{length:?}");
        }
        let (minutes, seconds) = (length.as_secs() / 60, length.as_secs() % 60);
        match (minutes / 60, minutes % 60) {
            (0, 0) => {}
            (0, minutes) => write!(f, "{minutes}m")?,
            (hours, minutes) => write!(f, "{hours}h{minutes}m")?,
        }
        let fraction = format!("{:09}", length.subsec_nanos());
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{seconds}s"),
            fraction => write!(f, "{seconds}.{fraction}s"),
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A length of time, or a number of nanoseconds: what `logging.flushFrequency` may be (`TimeOrMetaDuration`).
///
/// # Errors
/// When it is neither.
pub(super) fn or_nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Nanoseconds(i64),
        Duration(GoDuration),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Nanoseconds(nanoseconds) => GoDuration(nanoseconds),
        Either::Duration(duration) => duration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_written_as_go_does() {
        for (text, canonical) in [
            ("30s", "30s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("24h0m0s", "24h0m0s"),
            ("1.5h", "1h30m0s"),
            ("250ms", "250ms"),
            ("1m0.5s", "1m0.5s"),
            ("1500us", "1.5ms"),
            ("3ns", "3ns"),
            ("0", "0s"),
            ("0s", "0s"),
            ("-1m", "-1m0s"),
            ("+1m", "1m0s"),
            (".5s", "500ms"),
            ("1.5h30m", "2h0m0s"),
            ("2m1h", "1h2m0s"),
            ("2562047h47m16s", "2562047h47m16s"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(duration), "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "s",
            ".s",
            "1 s",
            "soon",
            "1d",
            "1e400h",
            "99999999999999999999h",
            "2562048h",
            "1hour",
            "PT1H",
            "1.2.3s",
            "1s2",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_negative_one_is_no_time_to_wait() {
        assert_eq!("-1s".parse::<GoDuration>().unwrap().positive(), None);
        assert_eq!("1s".parse::<GoDuration>().unwrap().positive(), Some(Duration::from_secs(1)));
    }
}
