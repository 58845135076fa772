//! userspace mode: connections are carried by the process itself.

pub mod bound;
pub mod forward;
mod notices;
pub mod ports;

pub use notices::{Notices, SCTP_NOT_FORWARDED};
