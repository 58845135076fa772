//! Many outside clients.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;

use super::{Subject, Who};
use crate::bed::Family;

impl Subject {
    /// Forty clients: source addresses that the client's namespace is given for the purpose.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn many_clients(&self) -> Result<Vec<IpAddr>> {
        let addresses: Vec<IpAddr> = (10..50u8)
            .map(|n| match self.family() {
                Family::V4 => [203, 0, 113, n].into(),
                Family::V6 => Ipv6Addr::from([0xfd00, 0x203, 0, 0, 0, 0, 1, n.into()]).into(),
            })
            .collect();
        let prefix = if addresses[0].is_ipv4() { 32 } else { 128 };
        let lines = |command: fn(&IpAddr, u8) -> String| -> String {
            addresses.iter().map(|address| command(address, prefix)).collect()
        };
        self.bed.client.ip(&lines(|ip, prefix| format!("addr add {ip}/{prefix} dev eth0 nodad\n")))?;
        self.bed.node.ip(&lines(|ip, prefix| format!("route add {ip}/{prefix} dev eth0\n")))?;
        Ok(addresses)
    }

    /// One of them.
    #[must_use]
    pub fn client_at(&self, ip: IpAddr) -> Who<'_> {
        Who { place: self.client().place.from_address(ip), ip }
    }
}
