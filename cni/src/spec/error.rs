//! Why a request could not be done, as the runtime is told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Version;

/// What kind of error it is. Those up to 99 are the specification's, those from 100 on ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The plugin does not speak the configuration's version.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// A field of the configuration is not supported; it is named with its value.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// There is no such container, and nothing to clean up after it.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A variable of the environment is missing or makes no sense; it is named.
    pub const ENVIRONMENT: Self = Self(4);
    /// The configuration, or what we keep on disk, could not be read or written.
    pub const IO: Self = Self(5);
    /// The configuration is not JSON, or not of the expected shape.
    pub const DECODING: Self = Self(6);
    /// The configuration makes no sense.
    pub const CONFIG: Self = Self(7);
    /// What is in the way is expected to pass.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// `STATUS`: `ADD` would fail now.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// `STATUS`: `ADD` would fail now, and running pods may not reach everything.
    pub const LIMITED_CONNECTIVITY: Self = Self(51);
    /// The container has such an interface already.
    pub const EXISTS: Self = Self(100);
    /// No address is left, or the one asked for cannot be had.
    pub const ADDRESS: Self = Self(101);
    /// The interface could not be made or removed.
    pub const INTERFACE: Self = Self(102);
    /// The IPAM plugin could not be run, or its answer makes no sense.
    pub const DELEGATE: Self = Self(103);
    /// What the daemon told makes no sense, or the plugin itself is mistaken.
    pub const STATE: Self = Self(104);
    /// `CHECK` has found something that is not as `ADD` left it.
    pub const NOT_AS_MADE: Self = Self(105);
    /// `GC` could not remove everything.
    pub const LEFT_OVER: Self = Self(106);
}

/// Why a request could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Error {
    /// What kind of error it is.
    pub code: Code,
    /// What was wrong, in a few words.
    pub msg: String,
    /// More of it, and what to do; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with details.
    #[must_use]
    pub fn with(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// The same with one more thing to say.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(more);
        self
    }

    /// As it is printed for the runtime.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("cniVersion".into(), version.as_str().into());
        object.insert("code".into(), self.code.0.into());
        object.insert("msg".into(), self.msg.clone().into());
        if !self.details.is_empty() {
            object.insert("details".into(), self.details.clone().into());
        }
        Value::Object(object)
    }

    /// What another plugin has printed, if that is an error.
    #[must_use]
    pub fn from_json(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Printed {
            code: Code,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let printed: Printed = serde_json::from_slice(text).ok()?;
        Some(Self { code: printed.code, msg: printed.msg, details: printed.details })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_as_it_is_printed() {
        let error = Error::new(Code::CONFIG, "mtu").with("12 is too small").and("the daemon says 1450");
        let json = error.to_json(Version::V0_4_0);
        assert_eq!(
            json.to_string(),
            r#"{"cniVersion":"0.4.0","code":7,"details":"12 is too small; the daemon says 1450","msg":"mtu"}"#
        );
        assert_eq!(Error::from_json(json.to_string().as_bytes()).unwrap(), error);
        assert_eq!(error.to_string(), "mtu: 12 is too small; the daemon says 1450");
        let short = Error::new(Code::IO, "gone");
        assert_eq!(short.to_json(Version::NEWEST).get("details"), None);
        assert_eq!(short.to_string(), "gone");
        assert_eq!(Error::from_json(b"panic: runtime error"), None);
    }
}
