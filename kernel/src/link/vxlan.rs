//! VXLAN devices: made and read back (`IFLA_VXLAN_*` of `linux/if_link.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;

use super::connection::Links;
use super::making::{check_name, unsupported, write_end, write_kind};
use super::types::{End, Link};
use super::uapi::{
    GETLINK, IFINFOMSG, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, NEWLINK,
    VXLAN_COLLECT_METADATA, VXLAN_GROUP, VXLAN_GROUP6, VXLAN_ID, VXLAN_LEARNING, VXLAN_LINK, VXLAN_LOCAL,
    VXLAN_LOCAL6, VXLAN_PORT,
};
use super::{is_link_name, read};
use crate::netlink::{Attributes, Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Writer};
use crate::{Error, Mac};

/// How a VXLAN device sends packets. It cannot be changed, but for where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Number of the network: 24 bits.
    pub vni: u32,
    /// UDP port that packets are sent to and received at.
    pub port: u16,
    /// Address that packets are sent from. `None`: whichever leads there.
    pub local: Option<IpAddr>,
    /// Index of the device that packets are sent by; 0: whichever leads there.
    pub underlay: u32,
    /// Whether it learns where to send frames from what it receives.
    pub learning: bool,
    /// Whether frames that no entry is for go somewhere, or tunnels are chosen packet by packet: not as we make them.
    pub special: bool,
}

impl Links {
    /// Makes a VXLAN device. It is down.
    ///
    /// # Errors
    /// When the name is taken, another device has that network and port, or the kernel refuses.
    pub fn make_vxlan(&mut self, name: &str, mac: Mac, mtu: u32, how: &Vxlan) -> Result<(), Error> {
        let operation = || format!("make VXLAN device {name}");
        check_name(name, operation)?;
        let made = self.socket.command(NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [0; IFINFOMSG], operation, |w| {
            write_end(w, &End { name, mtu: Some(mtu), mac });
            write_kind(w, "vxlan", |w| {
                w.ne32(VXLAN_ID, how.vni);
                w.attribute(VXLAN_PORT, &how.port.to_be_bytes());
                w.attribute(VXLAN_LEARNING, &[u8::from(how.learning)]);
                if how.underlay != 0 {
                    w.ne32(VXLAN_LINK, how.underlay);
                }
                match how.local {
                    Some(IpAddr::V4(local)) => w.attribute(VXLAN_LOCAL, &local.octets()),
                    Some(IpAddr::V6(local)) => w.attribute(VXLAN_LOCAL6, &local.octets()),
                    None => {}
                }
            });
        });
        unsupported(made, "VXLAN devices (module vxlan)")
    }

    /// The device of a name, and how it sends packets if it is of VXLAN.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn find_vxlan(&mut self, name: &str) -> Result<Option<(Link, Option<Vxlan>)>, Error> {
        if !is_link_name(name) {
            return Ok(None);
        }
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message_with(GETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, [0; IFINFOMSG], |w| {
                w.string(IFLA_IFNAME, name);
            });
            writer
        };
        let found = self.socket.dump(&format!("device {name}"), request, |message, found| {
            found.extend(read::link(message).map(|link| (link, vxlan(message))));
        });
        match found {
            Ok(found) => Ok(found.into_iter().find(|(link, _)| link.name == name)),
            Err(Error::Refused { errno: Errno::ENODEV, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn vxlan(message: &Message<'_>) -> Option<Vxlan> {
    let info = Attributes(message.payload.get(IFINFOMSG..)?).nested(IFLA_LINKINFO)?;
    (info.string(IFLA_INFO_KIND)? == "vxlan").then_some(())?;
    let data = info.nested(IFLA_INFO_DATA)?;
    let number = |kind| Some(u32::from_ne_bytes(*data.get(kind)?.first_chunk()?));
    let is_set = |kind| data.get(kind).is_some_and(|bytes| bytes.first().is_some_and(|byte| *byte != 0));
    let v4 = data.get(VXLAN_LOCAL).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    let v6 = data.get(VXLAN_LOCAL6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
    Some(Vxlan {
        vni: number(VXLAN_ID)?,
        port: u16::from_be_bytes(*data.get(VXLAN_PORT)?.first_chunk()?),
        local: v4.map(IpAddr::V4).or(v6.map(IpAddr::V6)),
        underlay: number(VXLAN_LINK).unwrap_or_default(),
        learning: is_set(VXLAN_LEARNING),
        special: data.get(VXLAN_GROUP).or_else(|| data.get(VXLAN_GROUP6)).is_some()
            || is_set(VXLAN_COLLECT_METADATA),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = vxlan(&Message { kind: NEWLINK, flags: 0, sequence: 0, port: 0, payload: &bytes });
        }
    }
}
