//! NetworkPolicies, compiled for one node.

pub mod object;
mod update;

pub use update::Update;
