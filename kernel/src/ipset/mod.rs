//! Sets of addresses and ports that rules of iptables match (`linux/netfilter/ipset/ip_set.h`).
//!
//! A set is of a kind and, but for bitmaps, a family, and holds entries; it cannot be destroyed while a rule refers to
//! it. There are no transactions: every message takes effect by itself, in the order sent. What takes the place of
//! a transaction is to fill a set under another name and to [`swap`](Ipsets::swap) the two.
//!
//! Only the kinds that kube-proxy uses and `hash:net` are known, and of them only what it uses: no time-outs, counters, comments or
//! ranges. Sets that others made are listed by [`Ipsets::headers`] all the same.

mod complaint;
mod connection;
mod read;
mod types;
mod uapi;
mod write;

pub use connection::Ipsets;
pub use types::{Edit, Entry, Header, Kind, Set};
