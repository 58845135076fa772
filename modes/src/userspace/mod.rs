//! userspace mode: connections are carried by the process itself.

pub mod bound;
pub mod captured;
pub mod forward;
mod notices;
pub mod ports;
mod return_path;
mod rules;
mod sources;
mod targets;
mod watch;

pub use notices::{Notices, SCTP_NOT_FORWARDED};
pub use rules::table as nftables_table;
