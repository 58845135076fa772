//! What is asked of the API server.

use endpoint_cache::object::Kind;

/// A kind of object, and which objects of it are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// The kind.
    pub(crate) kind: Kind,
    /// Where all objects of the kind are.
    pub(crate) path: &'static str,
    /// Whether there are API servers that do not know the kind.
    pub(crate) is_new: bool,
    /// Whether nothing is programmed before a list of them has been taken in.
    pub(crate) is_awaited: bool,
    /// A label selector.
    pub(crate) labels: Option<&'static str>,
    /// A field selector.
    pub(crate) fields: Option<String>,
}

impl Resource {
    /// All objects of a kind, which are waited for.
    pub(crate) fn all(kind: Kind, path: &'static str) -> Self {
        Self { kind, path, is_new: false, is_awaited: true, labels: None, fields: None }
    }

    /// The Node that this process runs on.
    pub(crate) fn own_node(name: &str) -> Self {
        Self { fields: Some(format!("metadata.name={name}")), ..Self::all(Kind::Node, "/api/v1/nodes") }
    }
}
