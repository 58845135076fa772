//! What joins the nodes: from Node objects to routes, neighbours and forwarding entries.
//!
//! Node objects go in as [`Update`]s; [`Nodes`] keeps what is [`Desired`] on this node and tells what changed of it as a
//! [`Delta`]. Both are pure: the same objects give the same state in whatever order they arrive. An [`Applier`] puts it into
//! the kernel, and a [`Monitor`] hears when somebody else changes what it put there.
//!
//! # How it fits together
//!
//! 1. [`Applier::uplinks`] finds the device that leads to the other nodes; that goes in as [`Update::Uplinks`], as do all
//!    Nodes. Whenever the [`Monitor`] says [`News::Uplink`], ask again.
//! 2. [`Applier::resync`] once, then [`Applier::apply`] with each [`Delta`]. After a failure, or when the [`Monitor`] says
//!    [`News::Damage`], [`Applier::resync`] again.
//! 3. [`Desired::announcement`] belongs into the own Node's annotations: others need it before they can reach this node.
//! 4. With [`Backend::Bgp`], [`bird::configuration`] makes BIRD's configuration of [`Desired::bgp`]; BIRD writes what it
//!    learns into a table of its own ([`bird::TABLE`]), where [`Applier::learned`] reads it; that goes in as
//!    [`Update::Learned`]. So routes are ours, are checked, and stay when BIRD restarts.

mod announcement;
mod applier;
pub mod bird;
mod claims;
mod desired;
mod masquerade;
mod monitor;
mod node;
mod nodes;
mod own;
mod published;
mod settings;
#[cfg(test)]
mod tests;
mod uplink;
mod ways;

pub use announcement::Announcement;
pub use applier::{Applier, Error, Report, cleanup};
pub use desired::{Bgp, Change, Delta, Desired, Masquerade, Tunnel, Way};
pub use kernel::Mac;
pub use masquerade::Masquerader;
pub use monitor::{Monitor, News};
pub use nodes::{Nodes, Update};
pub use published::{PUBLISHED_FILE, Published, PublishedError};
pub use settings::{Backend, BgpPeer, BgpSettings, Interface, MasqueradeSettings, Settings};
pub use uplink::Uplink;
