//! Routes and the rules that say which table is asked (`linux/rtnetlink.h`, `linux/fib_rules.h`).
//!
//! What it takes to lead marked packets, or those to an address, to this host, to ask which way an address is, and to
//! keep thousands of routes to other hosts: a [`Route`] has the number of who made it, so that nobody touches others'.

mod connection;
mod edit;
mod entry;
mod read;
mod source;
mod types;
mod uapi;

pub use connection::Routes;
pub use entry::{MAIN, Route, RouteEdit, Scope};
pub use source::source_towards;
pub use types::{AddressRoute, Change, Family, LocalRoute, MarkRule, Way};

pub(crate) use read::route as read_route;
