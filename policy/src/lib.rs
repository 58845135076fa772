//! NetworkPolicies, compiled for one node.

pub mod object;
mod settings;
mod update;

pub use settings::{Denied, Established, LEAST_MARK_BITS, LOG_GROUP, MARK_MASK, Settings, UnknownPods};
pub use update::Update;
