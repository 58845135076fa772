//! Routes and the rules that say which table is asked (`linux/rtnetlink.h`, `linux/fib_rules.h`).
//!
//! Just what it takes to lead marked packets, or those to an address, to this host, and to ask which way an address is.

mod connection;
mod read;
mod source;
mod types;
mod uapi;

pub use connection::Routes;
pub use source::source_towards;
pub use types::{AddressRoute, Change, Family, LocalRoute, MarkRule, Way};
