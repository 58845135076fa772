//! The way to the kernel.

use std::net::IpAddr;

use nix::errno::Errno;

use super::read;
use super::types::{Forwarding, Neighbour, NeighbourEdit};
use super::uapi::{
    AF_BRIDGE, AF_INET, AF_INET6, AF_UNSPEC, DELNEIGH, GETNEIGH, IFINFOMSG, NDA_DST, NDA_IFINDEX, NDA_LLADDR,
    NDMSG, NEWNEIGH, PERMANENT, SELF,
};
use crate::Error;
use crate::netlink::{
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, Protocol, Refusal, Socket, Writer,
};

/// Changes sent at a time, so that the answers fit the receive buffer even if every one is refused.
const PIPELINE: usize = 256;

/// A connection to the neighbours of the network namespace that the process is in.
pub struct Neighbours {
    socket: Socket,
}

impl Neighbours {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// The neighbours on a device's link, of both families.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list(&mut self, link: u32) -> Result<Vec<Neighbour>, Error> {
        let request = |sequence| {
            let mut header = [0; NDMSG];
            header[0] = AF_UNSPEC;
            let mut writer = Writer::default();
            writer.message_with(GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |w| {
                w.attribute(NDA_IFINDEX, &link.to_ne_bytes());
            });
            writer
        };
        self.socket.dump("neighbours", request, |message, found| {
            // Older kernels list those of all devices.
            found.extend(read::neighbour(message).filter(|neighbour| neighbour.link == link));
        })
    }

    /// Where a VXLAN device sends frames to.
    ///
    /// # Errors
    /// When that cannot be listed.
    pub fn forwarding(&mut self, link: u32) -> Result<Vec<Forwarding>, Error> {
        let request = |sequence| {
            let mut header = [0; IFINFOMSG];
            header[0] = AF_BRIDGE;
            header[4..8].copy_from_slice(&link.to_ne_bytes());
            let mut writer = Writer::default();
            writer.message_with(GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |_| {});
            writer
        };
        self.socket.dump("forwarding entries", request, |message, found| {
            found.extend(read::forwarding(message).filter(|entry| entry.link == link));
        })
    }

    /// Makes changes, in this order. To remove what is not there is no error. Returns those that were refused, by their
    /// place in `edits`; the others are made all the same.
    ///
    /// # Errors
    /// When the kernel cannot be spoken to: which changes were made is not known then.
    pub fn run(&mut self, edits: &[NeighbourEdit]) -> Result<Vec<(usize, Error)>, Error> {
        let mut refused = Vec::new();
        for (round, chunk) in edits.chunks(PIPELINE).enumerate() {
            let refusals = self.run_chunk(chunk)?;
            refused.extend(refusals.into_iter().map(|(at, error)| (round * PIPELINE + at, error)));
        }
        Ok(refused)
    }

    fn run_chunk(&mut self, edits: &[NeighbourEdit]) -> Result<Vec<(usize, Error)>, Error> {
        let count = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let first = self.socket.next_sequence(count);
        let mut writer = Writer::default();
        for (sequence, edit) in (first..).zip(edits) {
            write_edit(&mut writer, sequence, edit);
        }
        let (_, refusals) = self.socket.exchange(&writer, || "change neighbours".to_owned())?;
        let refused = refusals.into_iter().filter_map(|Refusal { sequence, errno, extended, .. }| {
            let at = sequence.wrapping_sub(first) as usize;
            let edit = edits.get(at)?;
            let removes = matches!(edit, NeighbourEdit::Forget(_) | NeighbourEdit::Stop(_));
            // A device takes them with it.
            let is_so_already = removes && matches!(errno, Errno::ENOENT | Errno::ENODEV);
            (!is_so_already).then(|| (at, Error::from_errno(edit.to_string(), errno, extended)))
        });
        Ok(refused.collect())
    }
}

/// Only its refusal is answered.
fn write_edit(writer: &mut Writer, sequence: u32, edit: &NeighbourEdit) {
    let (link, mac, address, is_forwarding) = match *edit {
        NeighbourEdit::Set(Neighbour { link, address, mac, .. })
        | NeighbourEdit::Forget(Neighbour { link, address, mac, .. }) => (link, mac, address, false),
        NeighbourEdit::Forward(Forwarding { link, mac, to })
        | NeighbourEdit::Stop(Forwarding { link, mac, to }) => (link, mac, to, true),
    };
    let (kind, flags) = match edit {
        NeighbourEdit::Set(_) | NeighbourEdit::Forward(_) => (NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE),
        NeighbourEdit::Forget(_) | NeighbourEdit::Stop(_) => (DELNEIGH, 0),
    };
    let mut header = [0; NDMSG];
    header[0] = match address {
        _ if is_forwarding => AF_BRIDGE,
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    header[10] = if is_forwarding { SELF } else { 0 };
    writer.message_with(kind, NLM_F_REQUEST | flags, sequence, header, |w| {
        match address {
            IpAddr::V4(address) => w.attribute(NDA_DST, &address.octets()),
            IpAddr::V6(address) => w.attribute(NDA_DST, &address.octets()),
        }
        if is_forwarding || kind == NEWNEIGH {
            w.attribute(NDA_LLADDR, &mac.0);
        }
    });
}
