//! The cache as its users see it: objects in, deltas and desired state out.

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
mod problems;
mod properties;
mod services;
mod topology;
