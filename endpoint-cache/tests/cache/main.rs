//! The cache as its users see it: objects in, deltas and desired state out.

mod claims;
mod decoding;
mod deltas;
mod endpoints;
mod frontends;
mod health_checks;
mod node;
mod objects;
mod problems;
mod services;
mod topology;
