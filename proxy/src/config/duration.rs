//! Lengths of time as Go writes them: `1h30m0s`, `250ms`, `-1s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, possibly negative: Kubernetes' `metav1.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(SignedDuration);

impl GoDuration {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(SignedDuration::from_secs(seconds))
    }

    /// Whether it is nothing, which in a configuration often stands for the default.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The same, unless it is negative.
    #[must_use]
    pub fn positive(self) -> Option<Duration> {
        self.0.try_into().ok()
    }
}

impl From<Duration> for GoDuration {
    /// What is longer than 292 billion years is cut.
    fn from(duration: Duration) -> Self {
        Self(duration.try_into().unwrap_or(SignedDuration::MAX))
    }
}

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time such as 30s or 1m30s")]
pub struct NoDuration(String);

impl FromStr for GoDuration {
    type Err = NoDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            // Nothing needs no unit.
            "0" | "+0" | "-0" => Ok(Self::default()),
            // Others than Go know words and blanks.
            text if text.contains(char::is_whitespace) => Err(NoDuration(text.to_owned())),
            text => text.parse().map(Self).map_err(|_| NoDuration(text.to_owned())),
        }
    }
}

impl fmt::Display for GoDuration {
    /// As Go's `time.Duration` prints itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_negative() {
            f.write_str("-")?;
        }
        let length = self.0.unsigned_abs();
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
        Either::Nanoseconds(nanoseconds) => GoDuration(SignedDuration::from_nanos(nanoseconds)),
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
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(duration), "{text}");
        }
        for text in ["", "1", "s", "1 s", "soon", "1d", "1e400h", "99999999999999999999h"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_negative_one_is_no_time_to_wait() {
        assert_eq!("-1s".parse::<GoDuration>().unwrap().positive(), None);
        assert_eq!("1s".parse::<GoDuration>().unwrap().positive(), Some(Duration::from_secs(1)));
    }
}
