//! The cache as its users see it: objects in, deltas and desired state out.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on fails, and objects read best written in place"
)]

mod claims;
mod decoding;
mod deltas;
mod endpoints;
mod frontends;
mod generate;
mod health_checks;
mod node;
mod objects;
mod oracle;
mod portraits;
mod problems;
mod properties;
mod relists;
mod services;
mod topology;
