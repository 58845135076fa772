//! A netlink socket that only listens.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::Socket as RawSocket;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::socket::{DATAGRAM, Protocol, Socket, receive, size_receive_buffer};
use super::{Message, messages};
use crate::Error;

/// Receives what the kernel tells some groups, but for what a socket of our own caused.
pub(crate) struct Notifications {
    raw: RawSocket,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Joins groups. Messages that bear `own_port` as their origin are dropped by the kernel: ten thousand services
    /// programmed at once would be as many messages to ourselves.
    pub(crate) fn open(protocol: Protocol, groups: &[u32], own_port: Option<u32>) -> Result<Self, Error> {
        let open = || -> io::Result<RawSocket> {
            let mut raw = RawSocket::new(protocol.number())?;
            // What does not fit is reported as lost.
            size_receive_buffer(&raw)?;
            own_port.map_or(Ok(()), |port| ignore_origin(&raw, port))?;
            raw.bind_auto()?;
            groups.iter().try_for_each(|group| raw.add_membership(*group))?;
            Ok(raw)
        };
        let operation = format!("listen to {}", protocol.name());
        let raw = open().map_err(|cause| match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => Error::Permission { operation },
            _ => Error::io(operation, cause),
        })?;
        Ok(Self { raw, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Waits for a datagram and hands its messages to `each`. False when the kernel had to drop some: anything may
    /// have been in them.
    pub(crate) fn receive(&mut self, what: &str, each: impl FnMut(&Message<'_>)) -> Result<bool, Error> {
        Ok(self.receive_with(MsgFlags::empty(), what, each)? == Received::All)
    }

    /// The same without waiting.
    pub(crate) fn receive_now(
        &mut self,
        what: &str,
        each: impl FnMut(&Message<'_>),
    ) -> Result<Received, Error> {
        self.receive_with(MsgFlags::MSG_DONTWAIT, what, each)
    }

    fn receive_with(
        &mut self,
        flags: MsgFlags,
        what: &str,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<Received, Error> {
        match receive(&self.raw, &mut self.buffer, flags) {
            Ok(()) => {
                messages(&self.buffer).for_each(|message| each(&message));
                Ok(Received::All)
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(cause) if cause.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(Received::NotAll),
            Err(cause) => Err(Error::io(format!("listen for {what}"), cause)),
        }
    }
}

/// What comes to a socket once it has asked for it.
impl From<Socket> for Notifications {
    fn from(socket: Socket) -> Self {
        let (raw, buffer) = socket.into_parts();
        Self { raw, buffer }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// What a socket had to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A datagram.
    All,
    /// The kernel had to drop some.
    NotAll,
    /// Nothing yet.
    Nothing,
}

/// Attaches a filter that drops datagrams whose first message has this port in `nlmsg_pid`. One transaction's messages
/// share datagrams with no other's.
fn ignore_origin(raw: &RawSocket, port: u32) -> io::Result<()> {
    /// Where `struct nlmsghdr` has `nlmsg_pid`.
    const NLMSG_PID: u32 = 12;
    /// `BPF_LD | BPF_W | BPF_ABS`
    const LOAD_WORD: u16 = 0x20;
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    const JUMP_IF_EQUAL: u16 = 0x15;
    /// `BPF_RET | BPF_K`
    const RETURN: u16 = 0x06;
    let instruction = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = [
        // Loads in network order; the header is in host order.
        instruction(LOAD_WORD, 0, NLMSG_PID),
        instruction(JUMP_IF_EQUAL, 1, u32::from_be_bytes(port.to_ne_bytes())),
        instruction(RETURN, 0, u32::MAX),
        instruction(RETURN, 0, 0),
    ];
    let length = u16::try_from(program.len()).unwrap_or_default();
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of_val(&filter)).unwrap_or_default();
    #[allow(unsafe_code, reason = "neither nix nor netlink-sys offers SO_ATTACH_FILTER")]
    // SAFETY: the option takes a sock_fprog of this size, which points to `program` with its length; the kernel
    // copies both before it returns.
    let result = unsafe {
        libc::setsockopt(
            raw.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&filter).cast(),
            size,
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
