//! Who has which address on a device's link (ARP, ND), and where a VXLAN device sends frames to (`linux/neighbour.h`).
//!
//! Facts that whoever programs these should know:
//!
//! - Permanent neighbours do not count against `gc_thresh3`: there may be any number of them.
//! - A forwarding entry has several destinations if it was appended to; to replace it replaces the first only.
//! - The kernel does not say who changed a forwarding entry: a monitor hears of our own.

mod connection;
mod read;
mod types;
mod uapi;

pub use connection::Neighbours;
pub use types::{Forwarding, Neighbour, NeighbourEdit};

pub(crate) use read::{forwarding, neighbour};
