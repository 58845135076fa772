//! Neighbours and forwarding entries.

use std::fmt;
use std::net::IpAddr;

use crate::Mac;

/// Who has an address on a device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// Index of the device.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub mac: Mac,
    /// Whether it was given, not learned: never asked for, never forgotten.
    pub permanent: bool,
}

/// Where a VXLAN device sends frames to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Forwarding {
    /// Index of the VXLAN device.
    pub link: u32,
    /// Whom the frames are for; [`Mac::ZERO`]: all that no other entry is for.
    pub mac: Mac,
    /// The node that has it.
    pub to: IpAddr,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourEdit {
    /// The address is this one's, whoever's it was; for ever.
    Set(Neighbour),
    /// The address is nobody's that is known. [`Neighbour::mac`] is of no matter.
    Forget(Neighbour),
    /// Frames go there, and not where they went.
    Forward(Forwarding),
    /// Frames do not go there any longer.
    Stop(Forwarding),
}

impl fmt::Display for NeighbourEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(Neighbour { link, address, mac, .. }) => {
                write!(f, "set neighbour {address} of device {link} to {mac}")
            }
            Self::Forget(Neighbour { link, address, .. }) => {
                write!(f, "remove neighbour {address} of device {link}")
            }
            Self::Forward(Forwarding { link, mac, to }) => {
                write!(f, "forward {mac} to {to} by device {link}")
            }
            Self::Stop(Forwarding { link, mac, to }) => {
                write!(f, "stop forwarding {mac} to {to} by device {link}")
            }
        }
    }
}
