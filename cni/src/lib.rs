//! The pod network: the CNI plugin that gives a pod its interface and addresses, and what joins the nodes.
//!
//! Two halves that share little:
//!
//! - What a container runtime runs once for each verb: [`plugin`] takes the request apart as the specification says
//!   ([`spec`]), [`ipam`] chooses addresses, [`attach`] makes the interface. What it made is written down before it is
//!   made, so that whatever is interrupted can be undone.
//! - What the daemon keeps up to date: [`network`] turns Node objects into routes, neighbours and forwarding entries.
//!
//! [`gate`] is where they meet: a pod that has its interface waits there until its policies are in force.

pub mod attach;
pub mod fault;
pub mod gate;
pub mod ipam;
pub mod network;
pub mod plugin;
pub mod spec;

/// The number that tells our routes from others': every route of ours on the node has it (`ip route show proto 112`).
pub const PROTOCOL: u8 = 112;
