//! Routes and the rules that say which table is asked (`linux/rtnetlink.h`, `linux/fib_rules.h`).
//!
//! Just what it takes to lead marked packets to this host, and to ask which way an address is.

mod connection;
mod read;
mod types;
mod uapi;

pub use connection::Routes;
pub use types::{Change, Family, LocalRoute, MarkRule, Way};
