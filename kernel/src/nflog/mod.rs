//! Hearing of packets that rules log: nflog (`linux/netfilter/nfnetlink_log.h`).
//!
//! A rule with [`Action::Log`](crate::nft::expr::Action::Log) hands packets to a group, of which a [`Listener`] hears;
//! [`headers`] finds in a packet's first bytes from whom to whom it is. Of a group that nobody listens to, packets are
//! not told to anybody.

mod headers;
mod listener;

pub use headers::{Headers, headers};
pub use listener::{Heard, Listener, LoggedPacket};
