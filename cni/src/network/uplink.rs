//! The device that leads to the other nodes.

use std::net::IpAddr;

use ipnet::IpNet;

/// The device that leads to the other nodes in a family, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub link: u32,
    /// Its name.
    pub name: String,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The node's address on it.
    pub address: IpAddr,
    /// The ranges whose addresses are on its link: reached without a router.
    pub on_link: Vec<IpNet>,
}

impl Uplink {
    /// Whether an address is reached without a router.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|range| range.contains(&address))
    }
}
