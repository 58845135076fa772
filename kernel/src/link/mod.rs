//! Devices and their addresses (`linux/rtnetlink.h`).
//!
//! Written with the netlink that is here already, not with the crate netlink-packet-route: six messages and as many
//! attributes are asked for, where the crate decodes all there is of every device and fails on what it does not know.
//!
//! Facts that whoever programs addresses should know:
//!
//! - An address of a device that is down, and has been since it was made, is local all the same: packets to it are
//!   delivered. IPv6 becomes local a moment after [`Links::run`] returns, when a worker of the kernel has looked at the
//!   new address; IPv4 at once.
//! - To take down a device that was up makes its IPv4 addresses no longer local, and removes its IPv6 addresses.
//! - The kernel does not say who changed an IPv6 address: an [`AddressMonitor`] hears of our own.

mod connection;
mod monitor;
mod read;
mod types;
mod uapi;

pub use connection::Links;
pub use monitor::{AddressMonitor, AddressNews};
pub use types::{Address, AddressEdit, Link};
