//! One object, encoded once and sent as it is ever after.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::kind::{self, Kind};

/// How every encoded object begins; its version follows, so that another can be put there without decoding.
const HEAD: &str = r#"{"metadata":{"resourceVersion":""#;

/// Which object of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

/// What an object keeps for as long as it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: Box<str>,
    pub(crate) created: Box<str>,
}

/// An object as it is stored: encoded, and what selectors ask for.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: Key,
    pub(crate) version: u64,
    pub(crate) identity: Identity,
    labels: Vec<(Box<str>, Box<str>)>,
    cluster_ip: Box<str>,
    service_type: Box<str>,
    encoded: Bytes,
    digits: usize,
    kind: &'static Kind,
}

/// An object as it was given, taken apart.
pub(crate) struct Draft {
    pub(crate) kind: usize,
    pub(crate) key: Key,
    metadata: Map<String, Value>,
    rest: Map<String, Value>,
}

impl Draft {
    /// Takes an object apart.
    pub(crate) fn new(mut object: Value) -> Result<Self> {
        remove_nulls(&mut object);
        let Value::Object(mut rest) = object else { anyhow::bail!("an object is no JSON object") };
        let name = rest.remove("kind").context("an object without kind")?;
        let name = name.as_str().unwrap_or_default();
        let kind = kind::named(name).with_context(|| format!("objects of kind {name:?} are not served"))?;
        if let Some(given) = rest.remove("apiVersion") {
            let expected = kind::ALL[kind].api_version;
            ensure!(given == expected, "{name} is served as {expected}, not as {given}");
        }
        let Some(Value::Object(mut metadata)) = rest.remove("metadata") else {
            anyhow::bail!("{name} without metadata");
        };
        metadata.remove("resourceVersion");
        let name = text(metadata.get("name"));
        ensure!(!name.is_empty(), "{} without name", kind::ALL[kind].name);
        if !kind::ALL[kind].namespaced {
            metadata.remove("namespace");
        } else if text(metadata.get("namespace")).is_empty() {
            metadata.insert("namespace".to_owned(), "default".into());
        }
        let key = Key { namespace: text(metadata.get("namespace")), name };
        Ok(Self { kind, key, metadata, rest })
    }

    /// The identity that was given, completed from another.
    pub(crate) fn identity(&self, other: impl FnOnce() -> Identity) -> Identity {
        let given = Identity {
            uid: text(self.metadata.get("uid")),
            created: text(self.metadata.get("creationTimestamp")),
        };
        if !given.uid.is_empty() && !given.created.is_empty() {
            return given;
        }
        let other = other();
        let or = |given: Box<str>, other| if given.is_empty() { other } else { given };
        Identity { uid: or(given.uid, other.uid), created: or(given.created, other.created) }
    }

    /// The object under a version. The encoding up to the version's end has a known length.
    pub(crate) fn encode(mut self, identity: Identity, version: u64) -> Result<Object> {
        self.metadata.insert("uid".to_owned(), (*identity.uid).into());
        self.metadata.insert("creationTimestamp".to_owned(), (*identity.created).into());
        let kind = &kind::ALL[self.kind];
        let mut encoded = format!("{HEAD}{version}").into_bytes();
        let digits = encoded.len() - HEAD.len();
        encoded.push(b'"');
        write_entries(&mut encoded, &self.metadata)?;
        encoded.push(b'}');
        write_entries(&mut encoded, &self.rest)?;
        encoded.extend_from_slice(kind.suffix.as_bytes());
        let labels = self.metadata.get("labels").and_then(Value::as_object);
        let labels =
            labels.into_iter().flatten().map(|(key, value)| (key.as_str().into(), text(Some(value))));
        Ok(Object {
            labels: labels.collect(),
            cluster_ip: text(self.rest.get("spec").and_then(|spec| spec.get("clusterIP"))),
            service_type: text(self.rest.get("spec").and_then(|spec| spec.get("type"))),
            encoded: encoded.into_boxed_slice().into(),
            key: self.key,
            version,
            identity,
            digits,
            kind,
        })
    }
}

impl Object {
    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|label| *label.0 == *key).map(|label| &*label.1)
    }

    /// The value of a field; empty if there is none. Fields that clients really ask for are at hand, others decoded.
    pub(crate) fn field(&self, path: &str) -> Cow<'_, str> {
        match path {
            "metadata.name" => Cow::Borrowed(&self.key.name),
            "metadata.namespace" => Cow::Borrowed(&self.key.namespace),
            "spec.clusterIP" => Cow::Borrowed(&self.cluster_ip),
            "spec.type" => Cow::Borrowed(&self.service_type),
            _ => {
                let decoded: Value = serde_json::from_slice(&self.encoded).unwrap_or_default();
                Cow::Owned(text(path.split('.').try_fold(&decoded, |value, word| value.get(word))).into())
            }
        }
    }

    /// Everything but the version.
    fn tail(&self) -> &[u8] {
        &self.encoded[HEAD.len() + self.digits..]
    }

    /// Whether both are the same apart from their version.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.tail() == other.tail()
    }

    /// The object under a version of its own or of a later event.
    pub(crate) fn write(&self, out: &mut BytesMut, version: u64) {
        if version == self.version {
            out.extend_from_slice(&self.encoded);
            return;
        }
        out.extend_from_slice(HEAD.as_bytes());
        out.extend_from_slice(version.to_string().as_bytes());
        out.extend_from_slice(self.tail());
    }

    /// As an item of a list, which says neither kind nor `apiVersion`.
    pub(crate) fn write_item(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.encoded[..self.encoded.len() - self.kind.suffix.len()]);
        out.extend_from_slice(b"}");
    }

    /// As it is sent.
    pub(crate) fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }
}

fn write_entries(out: &mut Vec<u8>, entries: &Map<String, Value>) -> Result<()> {
    for (key, value) in entries {
        out.push(b',');
        serde_json::to_writer(&mut *out, key)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)?;
    }
    Ok(())
}

/// The real server leaves fields without value out.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            if entries.values().any(Value::is_null) {
                entries.retain(|_, value| !value.is_null());
            }
            entries.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// A scalar as selectors compare it.
fn text(value: Option<&Value>) -> Box<str> {
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string().into(),
        _ => "".into(),
    }
}
