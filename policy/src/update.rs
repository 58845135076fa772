//! What the compiler is told.

use endpoint_cache::object::{Kind, Node, ObjectRef};

use crate::object::{Namespace, NetworkPolicy, Pod};

/// One object added or changed, or one deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A Pod as it is now, on whichever node.
    Pod(Pod),
    /// A Namespace as it is now.
    Namespace(Namespace),
    /// A NetworkPolicy as it is now.
    NetworkPolicy(NetworkPolicy),
    /// A Node as it is now. Only the own one matters.
    Node(Node),
    /// This object is gone.
    Deleted(ObjectRef),
    /// All objects of a kind follow, those that are known among them.
    ListBegins(Kind),
    /// They have: whatever was known and did not follow is gone. Without a beginning, nothing is.
    ListEnds(Kind),
}
