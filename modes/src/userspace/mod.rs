//! userspace mode: connections are carried by the process itself.

pub mod forward;
