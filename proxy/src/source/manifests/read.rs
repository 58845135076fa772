//! Decodes one piece of text, whatever it is written in, and says on which line it is wrong.

use endpoint_cache::Update;
use endpoint_cache::object::{EndpointSlice, Kind, Node, ObjectRef, Service, ServiceCidr};
use serde::de::DeserializeOwned;

use super::head::{Head, Holds};

/// Why a piece cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted from 1 at the piece's first line.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Text, or what it was decoded to, that a value can be read from.
pub(super) trait Read: Copy {
    fn read<T: DeserializeOwned>(self) -> Result<T, Fault>;

    /// The head, if it can be had without decoding everything.
    fn glance(self) -> Option<Head> {
        None
    }

    /// What it says it holds.
    fn holds(self) -> Result<Holds, Fault> {
        let head = self.glance().map_or_else(|| self.read(), Ok)?;
        head.holds().map_err(|reason| Fault { line: 1, reason: reason.to_owned() })
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

impl Read for Yaml<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_saphyr::from_str_with_options(self.0, yaml_options()).map_err(|error| yaml_fault(&error))
    }

    fn glance(self) -> Option<Head> {
        Head::glance(self.0)
    }
}

impl Read for YamlItem<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        Yaml(self.0).read::<(T,)>().map(|(value,)| value)
    }

    fn glance(self) -> Option<Head> {
        Head::glance(self.0)
    }
}

impl Read for Json<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_json::from_str(self.0).map_err(|error| json_fault(&error))
    }
}

impl Read for Decoded<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        T::deserialize(self.0).map_err(|error| Fault { line: 1, reason: error.to_string() })
    }
}

/// Reads an object of a kind, which must have a name.
pub(super) fn object(kind: Kind, from: impl Read) -> Result<(ObjectRef, Update), Fault> {
    let (name, update) = match kind {
        Kind::Service => {
            let object: Service = from.read()?;
            (object.object_name(), Update::Service(object))
        }
        Kind::EndpointSlice => {
            let object: EndpointSlice = from.read()?;
            (object.object_name(), Update::EndpointSlice(object))
        }
        Kind::Node => {
            let object: Node = from.read()?;
            (object.object_name(), Update::Node(object))
        }
        Kind::ServiceCidr => {
            let object: ServiceCidr = from.read()?;
            (object.object_name(), Update::ServiceCidr(object))
        }
        Kind::Pod | Kind::Namespace | Kind::NetworkPolicy => {
            return Err(Fault { line: 1, reason: format!("{kind}: only policies read these") });
        }
    };
    if name.name.is_empty() {
        return Err(Fault { line: 1, reason: format!("{kind} without metadata.name") });
    }
    Ok((ObjectRef { kind, name }, update))
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
