//! Devices and their addresses (`linux/rtnetlink.h`).
//!
//! Written with the netlink that is here already, not with the crate netlink-packet-route: ten messages and a few
//! attributes are asked for, where the crate decodes all there is of every device and fails on what it does not know.
//!
//! Facts that whoever programs addresses should know:
//!
//! - An address of a device that is down is local all the same: packets to it are delivered. IPv4 at once; IPv6 a moment
//!   after [`Links::run`] returns, when a worker of the kernel has made the route.
//! - To take down a device that was up removes its IPv6 addresses.
//! - To add an IPv4 address, the kernel walks over all that the device has; to remove an IPv6 address, over all routes of
//!   the network namespace. Ten thousand IPv4 addresses come or go in some 0.6 s, as many IPv6 addresses come in 1.5 s
//!   and go in 24 s. A device takes its addresses with it at once: [`Links::remove`] is how to remove them all.
//! - The two ends of a veth pair have no carrier until both are up. The kernel takes notice of the end that came up first
//!   a moment later, by a worker, and drops what is sent through it until then: [`Link::operating`] says when.
//! - The kernel does not say who changed an IPv6 address: an [`AddressMonitor`] hears of our own.

mod connection;
mod making;
mod monitor;
mod read;
mod types;
mod uapi;
mod vxlan;

pub use connection::Links;
pub use making::is_link_name;
pub use monitor::{AddressMonitor, AddressNews};
pub use types::{Address, AddressEdit, Assignment, End, Link, LinkChange, NewBridge, Port};
pub use vxlan::Vxlan;

pub(crate) use read::{address as read_address, link as read_link};
