//! How fast a device may send: token buckets, and what comes in led through a device of its own
//! (`linux/pkt_sched.h`, `linux/pkt_cls.h`).
//!
//! A queueing discipline holds back what a device *sends*. What it receives cannot be held back where it arrives, only
//! dropped; to have it wait as well, it is led to an intermediate functional block, a device that "sends" it back to where it was
//! taken from, after its own token bucket. The classifier is `u32`, which matches everything here: it is in every kernel
//! that can redirect, while `matchall` and the action `police` are not.
//!
//! Facts that whoever limits rates should know:
//!
//! - A packet larger than the bucket can never be sent and is dropped. Large ones that are to be cut later by the
//!   device are cut by the bucket instead.
//! - All that is attached to a device goes with it.

mod connection;
mod types;
mod uapi;

pub use connection::Qdiscs;
pub use types::{Bucket, Qdisc, QdiscKind};
