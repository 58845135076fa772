//! What passes on the underlay.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// `ETH_P_ALL`: frames of every protocol, those that are sent included.
const EVERYTHING: u16 = 0x0003;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Neighbour solicitations.
const SOLICITATION: u8 = 135;
/// The longest frame that there can be, with segments that the kernel has not cut yet.
const LONGEST: usize = 70_000;
/// The port of Linux's VXLAN, which flannel uses too.
const VXLAN_PORT: u16 = 8472;
/// How long a frame may take to arrive after it was sent.
const SETTLING: Duration = Duration::from_millis(50);

/// Hears everything that passes in a namespace.
pub struct Sniffer {
    frames: Arc<Mutex<Vec<Frame>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Starts listening.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn on(namespace: &Namespace) -> Result<Self> {
        let open = || -> std::io::Result<Socket> {
            let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.set_read_timeout(Some(SETTLING))?;
            // What does not fit is lost.
            let _ = socket.set_recv_buffer_size(8 << 20);
            Ok(socket)
        };
        let socket = namespace.run(open)?.context("cannot listen to a network")?;
        let (frames, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (heard, end) = (Arc::clone(&frames), Arc::clone(&stopped));
        let thread = thread::spawn(move || hear(&socket, &heard, &end));
        Ok(Self { frames, stopped, thread: Some(thread) })
    }

    /// Stops, and returns what passed.
    #[must_use]
    pub fn stop(mut self) -> Vec<Frame> {
        self.end();
        std::mem::take(&mut *self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Listens until nothing more comes after the end was asked for.
fn hear(mut socket: &Socket, frames: &Mutex<Vec<Frame>>, stopped: &AtomicBool) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) => {
                let frame = buffer.get(..length).and_then(Frame::read);
                frames.lock().unwrap_or_else(PoisonError::into_inner).extend(frame);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it goes to everybody or to a group.
    pub is_multicast: bool,
    /// `EtherType`
    pub kind: u16,
    /// The packet in it, if it is one.
    pub packet: Option<Packet>,
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let kind = u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?);
        let packet = match kind {
            IPV4 => Packet::read_v4(bytes.get(14..)?),
            IPV6 => Packet::read_v6(bytes.get(14..)?),
            _ => None,
        };
        Some(Self { is_multicast: bytes.first()? & 1 == 1, kind, packet })
    }

    /// Whether it asks who has an address.
    #[must_use]
    pub fn asks_for_neighbour(&self) -> bool {
        let solicits = |packet: &Packet| {
            packet.protocol == ICMPV6 && packet.payload.first().is_some_and(|kind| *kind == SOLICITATION)
        };
        self.kind == ARP || self.packet.as_ref().is_some_and(solicits)
    }

    /// Whether it carries a packet between these.
    #[must_use]
    pub fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        let between =
            |packet: &Packet| [(one, other), (other, one)].contains(&(packet.source, packet.destination));
        self.packet.as_ref().is_some_and(between)
    }

    /// The network and the frame that a tunnel's packet carries, as VXLAN has it.
    #[must_use]
    pub fn tunnelled(&self) -> Option<(u32, Self)> {
        let packet = self.packet.as_ref().filter(|packet| packet.protocol == UDP)?;
        let port = u16::from_be_bytes(packet.payload.get(2..4)?.try_into().ok()?);
        let [flags, _, _, _, a, b, c, _] = packet.payload.get(8..16)?.try_into().ok()?;
        // The flag says that there is a network's number.
        let is_vxlan = port == VXLAN_PORT && flags & 0x08 != 0;
        let inner = is_vxlan.then(|| Self::read(packet.payload.get(16..)?)).flatten()?;
        Some((u32::from_be_bytes([0, a, b, c]), inner))
    }
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From whom.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The number of the protocol in it.
    pub protocol: u8,
    /// What comes after its header.
    pub payload: Vec<u8>,
}

impl Packet {
    fn read_v4(bytes: &[u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 0x0f) * 4;
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        Some(Self {
            source: address(12)?.into(),
            destination: address(16)?.into(),
            protocol: *bytes.get(9)?,
            payload: bytes.get(header..)?.to_vec(),
        })
    }

    fn read_v6(bytes: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
        Some(Self {
            source: address(8)?.into(),
            destination: address(24)?.into(),
            protocol: *bytes.get(6)?,
            payload: bytes.get(40..)?.to_vec(),
        })
    }
}
