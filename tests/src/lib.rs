//! A small cluster out of network namespaces, to send real packets through the real kernel.
//!
//! [`isolation`] gives a test a user, network, mount and process namespace of its own, so that it needs no root, can
//! run beside others and leaves nothing behind. [`Bed`] builds in it: a node, pods on it, a second node with pods, and
//! outside clients. [`Proxy`] runs the real `pointsman` on the node, [`Cluster`] holds the objects it serves,
//! [`ApiServer`] hands them out if a folder of manifests is not enough, and [`Place::connect`] tells who answered a connection and which source address they saw. [`suite`] turns a table of
//! scenarios into tests.

pub mod api_server;
mod bed;
pub mod cluster;
pub mod http;
pub mod isolation;

mod namespace;
mod place;
mod proxy;
mod responder;
pub mod suite;

pub use api_server::ApiServer;
pub use bed::{Bed, Family, Layout, OTHER_POD_PORT, POD_PORT, Pod};
pub use cluster::Cluster;
pub use namespace::Namespace;
pub use place::{Outcome, Place, Protocol};
pub use proxy::{Proxy, Resources, binary};
pub use responder::Responder;
