//! Decodes one piece of text, whatever it is written in, and says on which line it is wrong.

use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use serde::de::DeserializeOwned;

use super::head::{Head, Holds};
use crate::source::{Text, Vocabulary};

/// Why a piece cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted from 1 at the piece's first line.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Text, or what it was decoded to, that says what it is.
pub(super) trait Read: Text<Error = Fault> {
    /// The head, if it can be had without decoding everything.
    fn glance(self) -> Option<Head> {
        None
    }

    /// What it says it holds, for who asks.
    fn holds<U: Vocabulary>(self) -> Result<Holds, Fault> {
        let head = self.glance().map_or_else(|| self.read(), Ok)?;
        head.holds::<U>().map_err(|reason| Fault { line: 1, reason: reason.to_owned() })
    }
}

/// A YAML document.
#[derive(Clone, Copy)]
pub(super) struct Yaml<'a>(pub(super) &'a str);

/// A YAML sequence of one.
#[derive(Clone, Copy)]
pub(super) struct YamlItem<'a>(pub(super) &'a str);

/// A JSON value.
#[derive(Clone, Copy)]
pub(super) struct Json<'a>(pub(super) &'a str);

/// What was decoded before its type was known. It has no lines left.
#[derive(Clone, Copy)]
pub(super) struct Decoded<'a>(pub(super) &'a serde_json::Value);

impl Text for Yaml<'_> {
    type Error = Fault;

    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_saphyr::from_str_with_options(self.0, yaml_options()).map_err(|error| yaml_fault(&error))
    }
}

impl Read for Yaml<'_> {
    fn glance(self) -> Option<Head> {
        Head::glance(self.0)
    }
}

impl Text for YamlItem<'_> {
    type Error = Fault;

    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        Yaml(self.0).read::<(T,)>().map(|(value,)| value)
    }
}

impl Read for YamlItem<'_> {
    fn glance(self) -> Option<Head> {
        Head::glance(self.0)
    }
}

impl Text for Json<'_> {
    type Error = Fault;

    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_json::from_str(self.0).map_err(|error| json_fault(&error))
    }
}

impl Read for Json<'_> {}

impl Text for Decoded<'_> {
    type Error = Fault;

    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        T::deserialize(self.0).map_err(|error| Fault { line: 1, reason: error.to_string() })
    }
}

impl Read for Decoded<'_> {}

/// Reads an object of a kind, which must have a name; `None` if nobody asks for the kind.
pub(super) fn object<U: Vocabulary>(kind: Kind, from: impl Read) -> Option<Result<(ObjectRef, U), Fault>> {
    let named = |(name, update): (ObjectName, U)| match name.name.is_empty() {
        true => Err(Fault { line: 1, reason: format!("{kind} without metadata.name") }),
        false => Ok((ObjectRef { kind, name }, update)),
    };
    Some(U::decode(kind, from)?.and_then(named))
}

/// Text is as large as the largest file at most; what is bounded here is what a small text may blow up to.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            enforce_alias_anchor_ratio: false,
        },
        with_snippet: false,
    }
}

fn yaml_fault(error: &serde_saphyr::Error) -> Fault {
    let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
    fault(line, &error.to_string())
}

pub(super) fn json_fault(error: &serde_json::Error) -> Fault {
    fault(Some(error.line()), &error.to_string())
}

/// Parsers end their messages with a place in the piece, which misleads: the line is told apart from the message.
fn fault(line: Option<usize>, message: &str) -> Fault {
    let reason = message.rfind(" at line ").map_or(message, |end| &message[..end]);
    Fault { line: line.unwrap_or(1).max(1), reason: reason.lines().collect::<Vec<_>>().join(" ") }
}
