//! The way to the kernel: finds, makes and removes devices, and changes their addresses.

use std::net::IpAddr;

use nix::errno::Errno;

use super::read;
use super::types::{Address, AddressEdit, Link};
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, DELADDR, DELLINK, DEPRECATED, GETADDR, GETLINK, IFA_ADDRESS, IFA_CACHEINFO,
    IFA_LOCAL, IFADDRMSG, IFINFOMSG, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, MAX_NAME, NEWADDR, NEWLINK,
    NODAD, SCOPE_HOST,
};
use crate::Error;
use crate::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, Protocol, Refusal, Socket, Writer,
};

/// Changes sent at a time, so that the answers fit the receive buffer even if every one is refused.
const PIPELINE: usize = 256;

/// The kind of device that [`Links::make_dummy`] makes.
const DUMMY: &str = "dummy";

/// A connection to the devices of the network namespace that the process is in.
pub struct Links {
    pub(super) socket: Socket,
}

impl Links {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// The connection's port: changes made through it bear this number, see
    /// [`AddressMonitor`](super::AddressMonitor).
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The device of a name.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        if name.is_empty() || name.len() > MAX_NAME {
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
            found.extend(read::link(message));
        });
        match found {
            // The kernel knows devices by other names as well.
            Ok(found) => Ok(found.into_iter().find(|link| link.name == name)),
            Err(Error::Refused { errno: Errno::ENODEV, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device of an index.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn get(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let mut header = [0; IFINFOMSG];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message_with(GETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, header, |_| {});
            writer
        };
        let found = self.socket.dump(&format!("device {index}"), request, |message, found| {
            found.extend(read::link(message));
        });
        match found {
            Ok(found) => Ok(found.into_iter().next()),
            Err(Error::Refused { errno: Errno::ENODEV | Errno::EINVAL, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn list(&mut self) -> Result<Vec<Link>, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message_with(GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence, [0; IFINFOMSG], |_| {});
            writer
        };
        self.socket.dump("devices", request, |message, found| {
            found.extend((message.kind == NEWLINK).then(|| read::link(message)).flatten());
        })
    }

    /// The dummy device of a name, which is made if it is not there.
    ///
    /// It is left down, on purpose: addresses of a device that is down are local all the same, and nobody can route
    /// through it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no such devices. When there is a device of that name that is no
    /// dummy, or the kernel refuses.
    pub fn make_dummy(&mut self, name: &str) -> Result<Link, Error> {
        let operation = || format!("make dummy device {name}");
        let refused =
            |errno, why: String| Error::Refused { operation: operation(), errno, extended: Some(why) };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(refused(Errno::EINVAL, format!("a device's name has from 1 to {MAX_NAME} bytes")));
        }
        let found = match self.find(name)? {
            Some(link) => Some(link),
            None => {
                self.create_dummy(name, operation)?;
                self.find(name)?
            }
        };
        let link = found.ok_or(Error::Malformed("a device that was made is not listed"))?;
        if link.kind.as_deref() == Some(DUMMY) {
            return Ok(link);
        }
        let kind = link.kind.as_deref().unwrap_or("real or loopback");
        Err(refused(Errno::EEXIST, format!("a {kind} device has that name")))
    }

    fn create_dummy(&mut self, name: &str, operation: impl Fn() -> String) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let made = self.socket.command(NEWLINK, flags, [0; IFINFOMSG], &operation, |w| {
            w.string(IFLA_IFNAME, name);
            w.nest(IFLA_LINKINFO, |w| w.string(IFLA_INFO_KIND, DUMMY));
        });
        match made {
            // Somebody else made it meanwhile.
            Err(Error::Refused { errno: Errno::EEXIST, .. }) => Ok(()),
            Err(Error::Refused { errno: Errno::EOPNOTSUPP, .. }) => {
                Err(Error::Unsupported { what: "dummy devices (module dummy)" })
            }
            made => made,
        }
    }

    /// Removes a device by its index, and with it its addresses.
    ///
    /// # Errors
    /// When there is none, or it is of a kind that cannot be removed.
    pub fn remove(&mut self, link: u32) -> Result<(), Error> {
        let mut header = [0; IFINFOMSG];
        header[4..8].copy_from_slice(&link.to_ne_bytes());
        self.socket.command(DELLINK, 0, header, || format!("remove device {link}"), |_| {})
    }

    /// The addresses of all devices, of both families.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let request = |sequence| {
            let mut header = [0; IFADDRMSG];
            header[0] = AF_UNSPEC;
            let mut writer = Writer::default();
            writer.message_with(GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |_| {});
            writer
        };
        self.socket.dump("addresses", request, |message, found| {
            found.extend((message.kind == NEWADDR).then(|| read::address(message)).flatten());
        })
    }

    /// Adds an address with a prefix of its own that the kernel never chooses as a source by itself: of scope host
    /// (IPv4), deprecated (IPv6). Says whether it was not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_passive(&mut self, link: u32, address: IpAddr) -> Result<bool, Error> {
        let edit = AddressEdit { link, add: true, address };
        let sequence = self.socket.next_sequence(1);
        let mut writer = Writer::default();
        write_edit(&mut writer, sequence, &edit, Choice::Never);
        writer.acknowledge_last();
        let (acknowledged, refusals) = self.socket.exchange(&writer, || edit.to_string())?;
        match refusals.into_iter().find(|refusal| refusal.sequence == sequence) {
            Some(Refusal { errno: Errno::EEXIST, .. }) => Ok(false),
            Some(Refusal { errno, extended, .. }) => Err(refused(&edit, errno, extended)),
            None if acknowledged == 0 => Err(Error::AnswerLost { operation: edit.to_string() }),
            None => Ok(true),
        }
    }

    /// Adds and removes addresses, in this order. To add what is there and to remove what is not is no error.
    ///
    /// # Errors
    /// The first refusal, with the address and the device it is about. All others are carried out all the same, unless
    /// the kernel cannot be spoken to.
    pub fn run(&mut self, edits: &[AddressEdit]) -> Result<(), Error> {
        let mut first_error = None;
        for chunk in edits.chunks(PIPELINE) {
            let refused = self.run_chunk(chunk)?;
            first_error = first_error.or(refused);
        }
        first_error.map_or(Ok(()), Err)
    }

    /// The first refusal, if there is one.
    fn run_chunk(&mut self, edits: &[AddressEdit]) -> Result<Option<Error>, Error> {
        let count = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let first = self.socket.next_sequence(count);
        let mut writer = Writer::default();
        for (sequence, edit) in (first..).zip(edits) {
            write_edit(&mut writer, sequence, edit, Choice::Possible);
        }
        let (_, refusals) = self.socket.exchange(&writer, || "change addresses".to_owned())?;
        Ok(refusals.into_iter().find_map(|Refusal { sequence, errno, extended, .. }| {
            let edit = edits.get(sequence.wrapping_sub(first) as usize)?;
            let is_so_already = if edit.add { Errno::EEXIST } else { Errno::EADDRNOTAVAIL };
            (errno != is_so_already).then(|| refused(edit, errno, extended))
        }))
    }
}

fn refused(edit: &AddressEdit, errno: Errno, extended: Option<String>) -> Error {
    match errno {
        // No matter of permission: sysctl disable_ipv6 is set. Older kernels do not say so.
        Errno::EACCES => {
            let extended = extended.or_else(|| Some("IPv6 is disabled on this device".to_owned()));
            Error::Refused { operation: edit.to_string(), errno, extended }
        }
        errno => Error::from_errno(edit.to_string(), errno, extended),
    }
}

/// Whether the kernel may choose an address as a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Possible,
    Never,
}

/// Only its refusal is answered.
fn write_edit(writer: &mut Writer, sequence: u32, edit: &AddressEdit, choice: Choice) {
    let (kind, flags) = if edit.add { (NEWADDR, NLM_F_CREATE | NLM_F_EXCL) } else { (DELADDR, 0) };
    let mut octets = [0; 16];
    let (family, octets, flag) = match edit.address {
        IpAddr::V4(address) => {
            octets[..4].copy_from_slice(&address.octets());
            (AF_INET, &octets[..4], 0)
        }
        // Nobody else has it: nothing to wait for before it is of use.
        IpAddr::V6(address) => {
            octets = address.octets();
            (AF_INET6, &octets[..], NODAD)
        }
    };
    let prefix = if edit.address.is_ipv4() { 32 } else { 128 };
    let mut header = [0; IFADDRMSG];
    let scope = if choice == Choice::Never { SCOPE_HOST } else { 0 };
    header[..4].copy_from_slice(&[family, prefix, flag, scope]);
    header[4..].copy_from_slice(&edit.link.to_ne_bytes());
    writer.message_with(kind, NLM_F_REQUEST | flags, sequence, header, |w| {
        w.attribute(IFA_LOCAL, octets);
        w.attribute(IFA_ADDRESS, octets);
        if choice == Choice::Never && edit.address.is_ipv6() {
            w.attribute(IFA_CACHEINFO, &DEPRECATED);
        }
    });
}
