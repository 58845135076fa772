//! Who has which address on a device's link (ARP, ND), and where a VXLAN device sends frames to (`linux/neighbour.h`).
//!
//! Facts that whoever programs these should know:
//!
//! - Permanent neighbours do not count against `gc_thresh3`: there may be any number of them.
//! - A device's frames go to one place. Only what is for several ([`Mac::ZERO`](crate::Mac::ZERO), groups) can have more.
//! - The kernel does not say who changed a forwarding entry: a monitor hears of our own.

mod connection;
mod read;
mod types;
mod uapi;

pub use connection::Neighbours;
pub use types::{Forwarding, Neighbour, NeighbourEdit};

pub(crate) use read::{forwarding as read_forwarding, neighbour as read_neighbour};
