//! A connected netlink socket: sized for large transactions, with the kernel's own words in errors.

use std::io;

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::read::u32_at;
use super::{
    Attributes, HEADER, Message, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG, Writer, align, messages,
};
use crate::Error;

/// Send buffer asked for, bytes: one transaction is one `sendmsg`, and must fit. Only an upper limit; not allocated.
const SEND_BUFFER: usize = 512 << 20;
/// Receive buffer asked for, bytes: holds the errors of a transaction and what the kernel queues of a dump.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel fills dumps up to 32 KiB a datagram when offered at least that much.
pub(super) const DATAGRAM: usize = 64 << 10;
/// How often a read that the kernel calls inconsistent is started over.
const DUMP_TRIES: usize = 16;

/// An error message of the kernel: which message it answers, and why it was refused.
pub(crate) struct Refusal {
    pub(crate) sequence: u32,
    pub(crate) errno: Errno,
    /// The error number as it came: subsystems have some that the system has not.
    pub(crate) code: i32,
    pub(crate) extended: Option<String>,
}

/// Which part of the kernel a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Netfilter,
    /// Families that are known by name, IPVS among them.
    Generic,
    /// Devices and addresses.
    Route,
}

impl Protocol {
    pub(super) fn number(self) -> isize {
        match self {
            Self::Netfilter => NETLINK_NETFILTER,
            Self::Generic => NETLINK_GENERIC,
            Self::Route => NETLINK_ROUTE,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Netfilter => "netfilter netlink (nfnetlink)",
            Self::Generic => "generic netlink",
            Self::Route => "rtnetlink",
        }
    }
}

/// A connected netlink socket.
pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
    sequence: u32,
    send_limit: usize,
    /// What was received last. Kept, since a buffer of its size is not cheap to get for each small change.
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(protocol: Protocol) -> Result<Self, Error> {
        let open = || -> io::Result<(RawSocket, u32)> {
            let mut raw = RawSocket::new(protocol.number())?;
            let port = raw.bind_auto()?.port_number();
            raw.connect(&SocketAddr::new(0, 0))?;
            raw.set_ext_ack(true)?;
            raw.set_cap_ack(true)?;
            Ok((raw, port))
        };
        let (raw, port) = open().map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPROTONOSUPPORT) => Error::Unsupported { what: protocol.name() },
            _ => Error::io(format!("open a socket for {}", protocol.name()), source),
        })?;
        let send_limit = size_buffers(&raw)?;
        Ok(Self { raw, port, sequence: 1, send_limit, buffer: Vec::with_capacity(DATAGRAM) })
    }

    pub(super) fn into_parts(self) -> (RawSocket, Vec<u8>) {
        (self.raw, self.buffer)
    }

    /// The number that the kernel knows this socket by.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The most bytes that one transaction may have.
    pub(crate) fn send_limit(&self) -> usize {
        self.send_limit
    }

    /// A run of `count` sequence numbers that are not in use.
    pub(crate) fn next_sequence(&mut self, count: u32) -> u32 {
        let first = if self.sequence.checked_add(count).is_some() { self.sequence } else { 1 };
        self.sequence = first.saturating_add(count);
        first
    }

    /// Sends messages as one datagram. The kernel has processed them when this returns.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the answers that the kernel has queued: how many acknowledgements, and every refusal.
    ///
    /// `ENOBUFS` says that answers were lost; the error is passed on, and the caller knows nothing of the outcome.
    pub(crate) fn drain_answers(&mut self) -> io::Result<(usize, Vec<Refusal>)> {
        let (mut acknowledged, mut refusals) = (0, Vec::new());
        loop {
            match receive(&self.raw, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((acknowledged, refusals));
                }
                Err(error) => return Err(error),
            }
            for message in messages(&self.buffer).filter(|message| message.kind == NLMSG_ERROR) {
                match refusal(&message) {
                    None => acknowledged += 1,
                    Some(refusal) => refusals.push(refusal),
                }
            }
        }
    }

    /// Sends messages as one datagram and takes the kernel's answers, see [`Socket::drain_answers`].
    pub(crate) fn exchange(
        &mut self,
        messages: &Writer,
        operation: impl Fn() -> String,
    ) -> Result<(usize, Vec<Refusal>), Error> {
        self.send(messages.bytes()).and_then(|()| self.drain_answers()).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                Some(errno) => Error::from_errno(operation(), errno, None),
                None => Error::io(operation(), source),
            }
        })
    }

    /// Sends one message that changes something: its type, further flags, the header of its protocol and its attributes.
    pub(crate) fn command(
        &mut self,
        kind: u16,
        flags: u16,
        header: impl AsRef<[u8]>,
        operation: impl Fn() -> String,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let sequence = self.next_sequence(1);
        let mut writer = Writer::default();
        writer.message_with(kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, header, body);
        let (acknowledged, refusals) = self.exchange(&writer, &operation)?;
        match refusals.into_iter().find(|refusal| refusal.sequence == sequence) {
            Some(Refusal { errno, extended, .. }) => Err(Error::from_errno(operation(), errno, extended)),
            None if acknowledged == 0 => Err(Error::AnswerLost { operation: operation() }),
            None => Ok(()),
        }
    }

    /// Sends a dump request and collects what `decode` finds in the messages of the answer. Starts over when the
    /// kernel says that what it lists changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        request: impl Fn(u32) -> Writer,
        decode: impl Fn(&Message<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, Error> {
        self.dump_into(what, request, decode)
    }

    /// As [`Socket::dump`], for what is not to be kept one by one.
    pub(crate) fn dump_into<A: Default>(
        &mut self,
        what: &str,
        request: impl Fn(u32) -> Writer,
        decode: impl Fn(&Message<'_>, &mut A),
    ) -> Result<A, Error> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.next_sequence(1);
            self.send(request(sequence).bytes())
                .map_err(|source| Error::io(format!("ask for {what}"), source))?;
            if let Some(found) = self.collect_dump(what, sequence, &decode)? {
                return Ok(found);
            }
        }
        Err(Error::KeepsChanging { what: what.to_owned() })
    }

    /// `None` when the kernel calls the dump inconsistent.
    fn collect_dump<A: Default>(
        &mut self,
        what: &str,
        sequence: u32,
        decode: &impl Fn(&Message<'_>, &mut A),
    ) -> Result<Option<A>, Error> {
        let (mut found, mut interrupted) = (A::default(), false);
        loop {
            let received = receive(&self.raw, &mut self.buffer, MsgFlags::empty());
            received.map_err(|source| lost_or_io(what, source))?;
            for message in messages(&self.buffer).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => match refusal(&message) {
                        // The listing broke off. No request comes with this: what follows is the code alone.
                        Some(Refusal { errno, .. }) if errno != Errno::EINTR => {
                            return Err(Error::from_errno(format!("list {what}"), errno, None));
                        }
                        refusal => return Ok((!interrupted && refusal.is_none()).then_some(found)),
                    },
                    NLMSG_ERROR => match refusal(&message) {
                        None => return Ok(Some(found)),
                        Some(refusal) if refusal.errno == Errno::EINTR => return Ok(None),
                        Some(Refusal { errno, extended, .. }) => {
                            return Err(Error::from_errno(format!("list {what}"), errno, extended));
                        }
                    },
                    _ => decode(&message, &mut found),
                }
            }
        }
    }
}

/// Receives a datagram into a buffer, whose capacity is the most that it may have.
pub(super) fn receive(raw: &RawSocket, buffer: &mut Vec<u8>, flags: MsgFlags) -> io::Result<()> {
    loop {
        buffer.clear();
        match raw.recv(buffer, flags.bits()) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sizes the buffers, past the system's limits where allowed; returns what one `sendmsg` takes.
fn size_buffers(raw: &RawSocket) -> Result<usize, Error> {
    let sizing = |source: Errno| Error::io("size the netlink socket's buffers", source);
    if setsockopt(raw, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        // Refused in a user namespace: as far as net.core.wmem_max goes, then.
        setsockopt(raw, sockopt::SndBuf, &SEND_BUFFER).map_err(sizing)?;
    }
    size_receive_buffer(raw).map_err(sizing)?;
    let granted = nix::sys::socket::getsockopt(raw, sockopt::SndBuf).map_err(sizing)?;
    Ok(granted.saturating_sub(64))
}

/// Past the system's limit where allowed, which it is not in a user namespace.
pub(super) fn size_receive_buffer(raw: &RawSocket) -> Result<(), Errno> {
    setsockopt(raw, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| setsockopt(raw, sockopt::RcvBuf, &RECEIVE_BUFFER))
}

fn lost_or_io(what: &str, source: io::Error) -> Error {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOBUFS) => Error::AnswerLost { operation: format!("list {what}") },
        _ => Error::io(format!("read {what}"), source),
    }
}

/// What an error message says; `None` for an acknowledgement.
fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let errno = u32_at(message.payload, 0).map(u32::cast_signed)?;
    if errno == 0 {
        return None;
    }
    // After the code: the header of the message answered, the rest of it unless capped, then attributes.
    let answered = u32_at(message.payload, 4).unwrap_or_default() as usize;
    let echoed = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { align(answered) };
    let extended = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| message.payload.get(4 + echoed..))
        .flatten()
        .and_then(|attributes| Attributes(attributes).string(NLMSGERR_ATTR_MSG))
        .map(str::to_owned);
    let sequence = u32_at(message.payload, 12).unwrap_or(message.sequence);
    let code = errno.saturating_neg();
    Some(Refusal { sequence, errno: Errno::from_raw(code), code, extended })
}
