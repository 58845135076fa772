//! userspace mode: connections are carried by the process itself.

pub mod forward;
pub mod ports;
mod targets;
