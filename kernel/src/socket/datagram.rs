//! UDP, in batches.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::{Origin, begun, outgoing};

/// Datagrams in a batch at most.
const DATAGRAMS: usize = 32;
/// Datagrams that there is always room for; more if the last batch was as large.
const FEW: usize = 4;
/// Bytes of a datagram at most: what UDP's length can say.
const LONGEST: usize = 65_535;

/// A UDP socket.
#[derive(Debug)]
pub struct Datagrams(Socket);

impl Datagrams {
    /// Takes datagrams that anybody sends to an address. Of several sockets, each gets those of the same senders
    /// always.
    ///
    /// # Errors
    /// When the address is taken, or not the node's.
    pub fn bind(address: SocketAddr, count: NonZeroUsize) -> io::Result<Vec<Self>> {
        let socket = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            Ok(socket)
        };
        let first = socket()?;
        // It does not share the address with anybody else; only then does it with those that follow.
        first.bind(&SockAddr::from(address))?;
        first.set_reuse_port(true)?;
        let bound = first.local_addr()?;
        let mut group = vec![Self(first)];
        for _ in 1..count.get() {
            let another = socket()?;
            another.set_reuse_port(true)?;
            another.bind(&bound)?;
            group.push(Self(another));
        }
        Ok(group)
    }

    /// Exchanges datagrams with one peer only.
    ///
    /// # Errors
    /// When there is no route to it, or the origin's address cannot be borne.
    pub fn connect(peer: SocketAddr, origin: &Origin) -> io::Result<Self> {
        let socket = outgoing(peer, Type::DGRAM, origin)?;
        begun(socket.connect(&SockAddr::from(peer)))?;
        Ok(Self(socket))
    }

    /// Throws away what has come so far.
    pub fn discard(&self) {
        let mut nowhere = [MaybeUninit::uninit(); 1];
        // It ends when there is nothing left, or with what keeps it from receiving at all.
        while self.0.recv_from(&mut nowhere).is_ok() {}
    }

    /// The address that its datagrams come from.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room. An earlier datagram's failure (`ConnectionRefused` when nobody listens
    /// there) is told in place of sending this one.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.send_with_flags(datagram, libc::MSG_NOSIGNAL).map(drop)
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Room for datagrams, and those that were received last.
#[derive(Debug, Default)]
pub struct Batch {
    room: Box<[u8]>,
    lengths: [usize; DATAGRAMS],
    senders: [Option<SocketAddr>; DATAGRAMS],
    count: usize,
    full: bool,
}

impl Batch {
    /// Room for as many as are taken at a time. By default there is none.
    #[must_use]
    pub fn new() -> Self {
        // Pages that no datagram reaches are never touched, so they take no memory.
        Self { room: vec![0; DATAGRAMS * LONGEST].into(), ..Self::default() }
    }

    fn capacity(&self) -> usize {
        self.room.len() / LONGEST
    }

    /// Whether as many were received last as there was room for, so that there may be more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Receives the datagrams that a socket has, as many as fit, and returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when there are none. An earlier datagram's failure is told first, as for [`Datagrams::send`].
    pub fn receive(&mut self, socket: &Datagrams) -> io::Result<usize> {
        // Setting up the whole room costs more than receiving a single datagram.
        let most = (self.count * 2).clamp(FEW, DATAGRAMS).min(self.capacity());
        self.count = 0;
        self.full = false;
        let mut addresses: [MaybeUninit<SockAddrStorage>; DATAGRAMS] =
            [const { MaybeUninit::uninit() }; DATAGRAMS];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; DATAGRAMS];
        let mut headers = empty_headers();
        let slots = headers.iter_mut().zip(&mut vectors).zip(&mut addresses).take(most);
        for (((header, vector), address), room) in slots.zip(self.room.chunks_exact_mut(LONGEST)) {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            let address = address.write(SockAddrStorage::zeroed());
            header.msg_hdr.msg_namelen = address.size_of();
            header.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
        }
        #[allow(unsafe_code, reason = "nix' recvmmsg does not set the length of addresses anew")]
        // SAFETY: every header points to room and to an address of the lengths it says, which outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.0.as_raw_fd(),
                headers.as_mut_ptr(),
                u32::try_from(most).unwrap_or_default(),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = Errno::result(received).map(|count| usize::try_from(count).unwrap_or_default())?;
        for (index, (header, address)) in headers.iter().zip(addresses).take(received).enumerate() {
            self.lengths[index] = (header.msg_len as usize).min(LONGEST);
            #[allow(
                unsafe_code,
                reason = "there is no other way to make an address of what the kernel wrote"
            )]
            // SAFETY: it was initialised above, and the kernel has written an address of this length there.
            let address = unsafe { SockAddr::new(address.assume_init(), header.msg_hdr.msg_namelen) };
            self.senders[index] = address.as_socket();
        }
        self.count = received;
        self.full = received == most;
        Ok(received)
    }

    /// The datagrams received last, and who sent them; nobody, if the socket has one peer only.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], Option<SocketAddr>)> {
        let rooms = self.room.chunks_exact(LONGEST).take(self.count);
        rooms.zip(self.lengths).zip(self.senders).map(|((room, length), sender)| (&room[..length], sender))
    }

    /// Sends the datagrams received last to one receiver, by a socket that anybody may send to. Returns how many it
    /// took; the rest is lost, as datagrams are.
    ///
    /// # Errors
    /// When it takes none.
    pub fn pass_on(&mut self, socket: &Datagrams, receiver: SocketAddr) -> io::Result<usize> {
        let address = SockAddr::from(receiver);
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; DATAGRAMS];
        let mut headers = empty_headers();
        let rooms = self.room.chunks_exact_mut(LONGEST).zip(self.lengths).take(self.count);
        for ((header, vector), (room, length)) in headers.iter_mut().zip(&mut vectors).zip(rooms) {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: length };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = address.len();
        }
        let count = u32::try_from(self.count).unwrap_or_default();
        #[allow(unsafe_code, reason = "nix' sendmmsg takes a vector of addresses")]
        // SAFETY: the first `count` headers point to datagrams and to an address of the lengths they say, which the
        // kernel only reads, and which outlive the call.
        let sent = unsafe {
            libc::sendmmsg(
                socket.0.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        Ok(Errno::result(sent).map(|count| usize::try_from(count).unwrap_or_default())?)
    }
}

fn empty_headers() -> [libc::mmsghdr; DATAGRAMS] {
    #[allow(unsafe_code, reason = "the structure has private padding, so it cannot be written down")]
    // SAFETY: a header of zeros is valid: null pointers with length 0.
    let header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
    [header; DATAGRAMS]
}
