//! Which address a pod gets, kept on disk as the reference plugin `host-local` keeps it.
//!
//! A network has a folder. An address that is taken is a file in it: the address is its name, the attachment that has it
//! its content. So either plugin reads what the other wrote, and a node can go from one to the other and back. Both hold
//! the same lock. Beside that there is what `host-local` does not know of and passes over, in a folder of ours: from
//! which boot and network namespace each attachment is. By that, addresses that nobody gave back are found.
//!
//! **A crash loses nothing.** A file gets its name when its content is there, so whoever is killed leaves a whole file
//! or none. Nothing is flushed to the medium: what that guards against is a power cut, after which no container is left
//! to have an address, and every one from an older boot is free.

mod birth;
pub mod doctor;
mod leaked;
mod own;
mod ranges;
mod resolver;
mod store;

pub(crate) use birth::{Birth, Boot, Fate};
pub(crate) use own::{Lease, add, check, del, gc, status};
pub use ranges::{Range, RangeSet};
