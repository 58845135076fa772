//! Making and changing devices, and giving them addresses with prefixes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::errno::Errno;

use super::connection::Links;
use super::types::{Assignment, End, LinkChange, NewBridge};
use super::uapi::{
    ADDR_GEN_MODE_NONE, AF_BRIDGE, AF_INET, AF_INET6, DELADDR, IFA_ADDRESS, IFA_BROADCAST, IFA_FLAGS,
    IFA_LOCAL, IFADDRMSG, IFINFOMSG, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_BRPORT_MODE, IFLA_IFALIAS, IFLA_IFNAME,
    IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
    IFLA_NET_NS_FD, IFLA_PROTINFO, MAX_ALIAS, MAX_NAME, NEWADDR, NEWLINK, NODAD, NOPREFIXROUTE, PROMISC,
    SETLINK, UP, VETH_INFO_PEER,
};
use crate::Error;
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Refusal, Writer};

impl Links {
    /// Makes a veth pair: one end here, the other in another network namespace, both under their final names from the
    /// first moment. Both are down.
    ///
    /// # Errors
    /// When either name is taken, or the kernel refuses.
    pub fn make_veth(
        &mut self,
        here: &End<'_>,
        there: &End<'_>,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let operation = || format!("make veth pair {} and {}", here.name, there.name);
        check_name(here.name, operation)?;
        check_name(there.name, operation)?;
        let made = self.socket.command(NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [0; IFINFOMSG], operation, |w| {
            write_end(w, here);
            write_kind(w, "veth", |w| {
                w.nest(VETH_INFO_PEER, |w| {
                    w.raw(&[0; IFINFOMSG]);
                    write_end(w, there);
                    if let Some(netns) = netns {
                        w.ne32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
                    }
                });
            });
        });
        unsupported(made, "veth devices (module veth)")
    }

    /// Makes a bridge. It is down.
    ///
    /// # Errors
    /// When the name is taken, or the kernel refuses.
    pub fn make_bridge(&mut self, new: &NewBridge<'_>) -> Result<(), Error> {
        let operation = || format!("make bridge {}", new.name);
        check_name(new.name, operation)?;
        let made = self.socket.command(NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [0; IFINFOMSG], operation, |w| {
            write_end(w, &End { name: new.name, mtu: new.mtu, mac: new.mac });
            write_kind(w, "bridge", |_| {});
        });
        unsupported(made, "bridges (module bridge)")
    }

    /// Makes an intermediate functional block: what is sent to it comes back to where it was taken from, after it has
    /// waited in the block's queue. It is down.
    ///
    /// # Errors
    /// When the name is taken, or the kernel refuses.
    pub fn make_ifb(&mut self, name: &str) -> Result<(), Error> {
        let operation = || format!("make ifb device {name}");
        check_name(name, operation)?;
        let made = self.socket.command(NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [0; IFINFOMSG], operation, |w| {
            w.string(IFLA_IFNAME, name);
            write_kind(w, "ifb", |_| {});
        });
        unsupported(made, "intermediate functional blocks (module ifb)")
    }

    /// Changes a device, all at once; what fails may have been done in part.
    ///
    /// # Errors
    /// When there is no such device, or the kernel refuses.
    pub fn change(&mut self, link: u32, change: &LinkChange<'_>) -> Result<(), Error> {
        let operation = || format!("change device {link}");
        change.name.map_or(Ok(()), |name| check_name(name, operation))?;
        let mut header = [0; IFINFOMSG];
        header[4..8].copy_from_slice(&link.to_ne_bytes());
        let flag = |wanted: Option<bool>, bit: u32| match wanted {
            None => (0, 0),
            Some(set) => (if set { bit } else { 0 }, bit),
        };
        let (up, promiscuous) = (flag(change.up, UP), flag(change.promiscuous, PROMISC));
        header[8..12].copy_from_slice(&(up.0 | promiscuous.0).to_ne_bytes());
        header[12..].copy_from_slice(&(up.1 | promiscuous.1).to_ne_bytes());
        match self.socket.command(SETLINK, 0, header, operation, |w| write_change(w, change)) {
            // A device without IPv6, as one is whose packets are too small for it, gets no address in any case.
            Err(Error::Refused { errno: Errno::EAFNOSUPPORT, .. }) if change.no_link_local => {
                let change = LinkChange { no_link_local: false, ..*change };
                self.socket.command(SETLINK, 0, header, operation, |w| write_change(w, &change))
            }
            done => done,
        }
    }

    /// Whether frames may leave by the port of a bridge that they came in by.
    ///
    /// # Errors
    /// When the device is no port of a bridge, or the kernel refuses.
    pub fn set_hairpin(&mut self, link: u32, allowed: bool) -> Result<(), Error> {
        let mut header = [0; IFINFOMSG];
        header[0] = AF_BRIDGE;
        header[4..8].copy_from_slice(&link.to_ne_bytes());
        self.socket.command(
            SETLINK,
            0,
            header,
            || format!("set hairpin mode of device {link}"),
            |w| w.nest(IFLA_PROTINFO, |w| w.attribute(IFLA_BRPORT_MODE, &[u8::from(allowed)])),
        )
    }

    /// Gives devices addresses, which are of use at once: nobody else is asked whether they have them. What is there
    /// already is no error. IPv6 addresses are delivered to a moment later, when a worker of the kernel has made the
    /// route.
    ///
    /// # Errors
    /// The first refusal. All others are carried out all the same.
    pub fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error> {
        if assignments.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(assignments.len()).unwrap_or(u32::MAX);
        let first = self.socket.next_sequence(count);
        let mut writer = Writer::default();
        for (sequence, assignment) in (first..).zip(assignments) {
            write_address(&mut writer, NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sequence, assignment);
        }
        let (_, refusals) = self.socket.exchange(&writer, || "add addresses".to_owned())?;
        let refused = refusals.into_iter().find_map(|Refusal { sequence, errno, extended, .. }| {
            let assignment = assignments.get(sequence.wrapping_sub(first) as usize)?;
            (errno != Errno::EEXIST).then(|| match errno {
                // No matter of permission: IPv6 is off for the device.
                Errno::EACCES => Error::Refused {
                    operation: assignment.to_string(),
                    errno,
                    extended: extended.or_else(|| Some("IPv6 is disabled on this device".to_owned())),
                },
                errno => Error::from_errno(assignment.to_string(), errno, extended),
            })
        });
        refused.map_or(Ok(()), Err)
    }

    /// Takes an address from a device; says whether it had it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unassign(&mut self, link: u32, address: IpNet) -> Result<bool, Error> {
        let assignment = Assignment { link, address, on_link: true };
        let operation = || format!("remove address {address} from device {link}");
        let sequence = self.socket.next_sequence(1);
        let mut writer = Writer::default();
        write_address(&mut writer, DELADDR, 0, sequence, &assignment);
        writer.acknowledge_last();
        let (acknowledged, refusals) = self.socket.exchange(&writer, operation)?;
        match refusals.into_iter().find(|refusal| refusal.sequence == sequence) {
            Some(Refusal { errno: Errno::EADDRNOTAVAIL, .. }) => Ok(false),
            Some(Refusal { errno, extended, .. }) => Err(Error::from_errno(operation(), errno, extended)),
            None if acknowledged == 0 => Err(Error::AnswerLost { operation: operation() }),
            None => Ok(true),
        }
    }
}

pub(super) fn write_end(w: &mut Writer, end: &End<'_>) {
    w.string(IFLA_IFNAME, end.name);
    w.attribute(IFLA_ADDRESS, &end.mac.0);
    if let Some(mtu) = end.mtu {
        w.ne32(IFLA_MTU, mtu);
    }
}

pub(super) fn write_kind(w: &mut Writer, kind: &str, data: impl FnOnce(&mut Writer)) {
    w.nest(IFLA_LINKINFO, |w| {
        w.string(IFLA_INFO_KIND, kind);
        w.nest(IFLA_INFO_DATA, data);
    });
}

fn write_change(w: &mut Writer, change: &LinkChange<'_>) {
    if let Some(mtu) = change.mtu {
        w.ne32(IFLA_MTU, mtu);
    }
    if let Some(mac) = change.mac {
        w.attribute(IFLA_ADDRESS, &mac.0);
    }
    if let Some(master) = change.master {
        w.ne32(IFLA_MASTER, master);
    }
    if let Some(name) = change.name {
        w.string(IFLA_IFNAME, name);
    }
    if let Some(alias) = change.alias {
        w.string(IFLA_IFALIAS, &alias[..alias.floor_char_boundary(MAX_ALIAS)]);
    }
    if change.no_link_local {
        w.nest(IFLA_AF_SPEC, |w| {
            w.nest(u16::from(AF_INET6), |w| w.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]));
        });
    }
    if let Some(netns) = change.netns {
        w.ne32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    }
}

/// Only its refusal is answered.
fn write_address(writer: &mut Writer, kind: u16, flags: u16, sequence: u32, wanted: &Assignment) {
    let family = if wanted.address.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    let mut header = [0; IFADDRMSG];
    header[..2].copy_from_slice(&[family, wanted.address.prefix_len()]);
    header[4..].copy_from_slice(&wanted.link.to_ne_bytes());
    writer.message_with(kind, NLM_F_REQUEST | flags, sequence, header, |w| {
        let octets: &[u8] = match wanted.address.addr() {
            IpAddr::V4(address) => &address.octets(),
            IpAddr::V6(address) => &address.octets(),
        };
        w.attribute(IFA_LOCAL, octets);
        w.attribute(IFA_ADDRESS, octets);
        if kind == DELADDR {
            return;
        }
        // Two addresses have no room for one that stands for all.
        if let IpNet::V4(address) = wanted.address
            && address.prefix_len() < 31
        {
            w.attribute(IFA_BROADCAST, &address.broadcast().octets());
        }
        let without_route = if wanted.on_link { 0 } else { NOPREFIXROUTE };
        let without_asking = if family == AF_INET6 { u32::from(NODAD) } else { 0 };
        w.ne32(IFA_FLAGS, without_route | without_asking);
    });
}

pub(super) fn check_name(name: &str, operation: impl Fn() -> String) -> Result<(), Error> {
    if is_link_name(name) {
        return Ok(());
    }
    let why = format!("a device's name has from 1 to {MAX_NAME} bytes, no space, `/` or `:`");
    Err(Error::Refused { operation: operation(), errno: Errno::EINVAL, extended: Some(why) })
}

/// Whether the kernel takes it as a device's name (`dev_valid_name`). One that it takes cannot lead out of a folder.
#[must_use]
pub fn is_link_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

pub(super) fn unsupported(made: Result<(), Error>, what: &'static str) -> Result<(), Error> {
    match made {
        Err(Error::Refused { errno: Errno::EOPNOTSUPP, .. }) => Err(Error::Unsupported { what }),
        made => made,
    }
}
