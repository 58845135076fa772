//! A small cluster out of network namespaces, to send real packets through the real kernel.
//!
//! [`isolation`] gives a test a user, network, mount and process namespace of its own, so that it needs no root, can
//! run beside others and leaves nothing behind. [`Bed`] builds in it: a node, pods on it, a second node with pods, and
//! outside clients. [`Proxy`] runs the real `pointsman` on the node, [`Cluster`] holds the objects it serves,
//! [`ApiServer`] hands them out if a folder of manifests is not enough, and [`Place::connect`] tells who answered a
//! connection and which source address they saw. [`Rules`] lists and damages a mode's rules with the tools that
//! everybody has. [`Subject`] has all of it in its hands, [`cni`] runs plugins as a container runtime does, [`ClusterBed`] has several nodes with a
//! pod network, and [`suite`] turns a table of scenarios into tests. [`vm`] runs
//! suites on another kernel.

pub mod api_server;
mod bed;
pub mod cluster;
pub mod cluster_bed;
pub mod cni;
pub mod dns;
pub mod faketime;
pub mod http;
mod iptables;
pub mod isolation;
mod log;
pub mod mode;
mod namespace;
mod ordinary;
mod place;
mod proxy;
mod responder;
pub mod rules;
mod sctp;
pub mod subject;
pub mod suite;
pub mod trace;
mod traffic;
pub mod vm;
mod waiting;

pub use api_server::ApiServer;
pub use bed::{Bed, Family, Layout, OTHER_POD_PORT, POD_PORT, Pod, Stack};
pub use cluster::Cluster;
pub use cluster_bed::ClusterBed;
pub use iptables::Iptables;
pub use mode::{Backend, Mode};
pub use namespace::Namespace;
pub use ordinary::{User, program_as, read_only_sysctls};
pub use place::{Conversation, Flow, Outcome, Place, Protocol};
pub use proxy::{Environment, Objects, Proxy, Resources, binary, binary_for};
pub use responder::Responder;
pub use rules::Rules;
pub use subject::Subject;
pub use traffic::under_traffic;
pub use waiting::await_that;
