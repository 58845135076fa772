//! Which version of the specification a configuration is written in.

use serde_json::{Value, json};

use super::{Code, Error};

/// A version of the specification. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Chained plugins.
    V0_3_1,
    /// `CHECK`, and what was made is told at `DEL`.
    V0_4_0,
    /// Addresses need not say of which family they are.
    V1_0_0,
    /// `GC` and `STATUS`, and more is told of interfaces and routes.
    V1_1_0,
}

impl Version {
    /// All that we speak, in ascending order.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The one that is spoken where nothing else was asked for.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As it is written in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration asks for.
    ///
    /// # Errors
    /// When we do not speak it. One that says nothing means 0.1.0, which nobody has written for years.
    pub fn of(configured: Option<&str>) -> Result<Self, Error> {
        let asked = configured.filter(|version| !version.is_empty()).unwrap_or("0.1.0");
        Self::ALL.into_iter().find(|version| version.as_str() == asked).ok_or_else(|| {
            let spoken = Self::ALL.map(Self::as_str).join(", ");
            Error::new(Code::INCOMPATIBLE_VERSION, format!("CNI version {asked:?} is not supported"))
                .with(format!("cniVersion must be one of {spoken}"))
        })
    }

    /// The answer to `VERSION`. It is given in the version asked for, if we speak that.
    #[must_use]
    pub fn report(asked: Option<&str>) -> Value {
        let version = Self::of(asked).unwrap_or(Self::NEWEST);
        json!({ "cniVersion": version.as_str(), "supportedVersions": Self::ALL.map(Self::as_str) })
    }

    /// Refuses a verb that this version does not have yet.
    pub(crate) fn must_have(self, verb: &str, since: Self) -> Result<(), Error> {
        if self >= since {
            return Ok(());
        }
        let why = format!("{verb} is there since CNI version {}", since.as_str());
        Err(Error::new(Code::INCOMPATIBLE_VERSION, why).with(format!("cniVersion is {}", self.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_specification() {
        for version in Version::ALL {
            assert_eq!(Version::of(Some(version.as_str())).unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
        for unknown in [None, Some(""), Some("0.2.0"), Some("1.0"), Some("2.0.0"), Some("1.1.0 ")] {
            assert_eq!(Version::of(unknown).unwrap_err().code, Code::INCOMPATIBLE_VERSION, "{unknown:?}");
        }
    }

    #[test]
    fn version_answers_in_the_version_asked_for() {
        assert_eq!(Version::report(Some("0.4.0"))["cniVersion"], "0.4.0");
        assert_eq!(Version::report(Some("7.0.0"))["cniVersion"], "1.1.0");
        let spoken = &Version::report(None)["supportedVersions"];
        assert_eq!(*spoken, json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
}
