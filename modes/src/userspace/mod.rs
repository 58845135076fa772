//! userspace mode: connections are carried by the process itself.

pub mod captured;
pub mod forward;
pub mod ports;
mod return_path;
mod rules;
mod sources;
mod targets;
mod watch;
