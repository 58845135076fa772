//! The listener of a group.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;
use crate::netlink::{Message, NLM_F_ACK, NLM_F_REQUEST, Notifications, Protocol, Received, Socket, Writer};
use crate::nft::HookPoint;

/// `NFNL_SUBSYS_ULOG`
const SUBSYSTEM: u16 = 4;
/// `NFULNL_MSG_PACKET`
const PACKET: u16 = SUBSYSTEM << 8;
/// `NFULNL_MSG_CONFIG`
const CONFIG: u16 = SUBSYSTEM << 8 | 1;

/// `NFULA_*`: what is told of a packet.
const PACKET_HDR: u16 = 1;
const IFINDEX_INDEV: u16 = 4;
const IFINDEX_OUTDEV: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// Where `struct nfulnl_msg_packet_hdr` has the hook.
const HOOK: usize = 2;

/// `NFULA_CFG_*`: what is asked for.
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_TIMEOUT: u16 = 4;
/// `NFULNL_CFG_CMD_BIND`
const BIND: u8 = 1;
/// `NFULNL_COPY_PACKET`
const COPY_PACKET: u8 = 2;
/// For how long the kernel keeps packets, to tell several at once; hundredths of a second.
const TIMEOUT: u32 = 10;

/// Bytes that are told of a packet at most: none has longer headers.
const LONGEST_RANGE: u16 = 512;

/// Hears of the packets that rules log to a group, in the network namespace that the process is in.
pub struct Listener {
    notifications: Notifications,
    heard: VecDeque<Heard>,
}

/// What it heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A packet.
    Packet(LoggedPacket),
    /// The kernel had to drop some.
    Lost,
}

/// A packet that a rule logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPacket {
    /// What the rule says of it.
    pub prefix: String,
    /// Where it was.
    pub hook: HookPoint,
    /// Index of the interface that it came in by.
    pub input: Option<u32>,
    /// Index of the interface that it goes out by.
    pub output: Option<u32>,
    /// Its first bytes, from the IP header on; see [`headers`](super::headers).
    pub bytes: Vec<u8>,
}

impl Listener {
    /// Begins to listen to a group. Of each packet, at most `range` bytes are told, and never more than 512.
    ///
    /// # Errors
    /// When the kernel lacks nflog or refuses, as it does when another program listens to the group.
    pub fn open(group: u16, range: u16) -> Result<Self, Error> {
        let operation = || format!("listen to nflog group {group} (to which another program may listen)");
        let mut socket = Socket::open(Protocol::Netfilter)?;
        let mut writer = Writer::default();
        let first = socket.next_sequence(2);
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        // Family 0: packets of both.
        writer.message(CONFIG, flags, first, (0, group), |w| w.attribute(CFG_CMD, &[BIND]));
        writer.message(CONFIG, flags, first + 1, (0, group), |w| {
            w.attribute(CFG_MODE, &copy_mode(range.min(LONGEST_RANGE)));
            w.be32(CFG_TIMEOUT, TIMEOUT);
        });
        let (acknowledged, refusals) = socket.exchange(&writer, operation)?;
        match refusals.into_iter().next() {
            Some(refusal) => Err(Error::from_errno(operation(), refusal.errno, refusal.extended)),
            None if acknowledged < 2 => Err(Error::AnswerLost { operation: operation() }),
            None => Ok(Self { notifications: socket.into(), heard: VecDeque::new() }),
        }
    }

    /// The next packet, without waiting; `None` if there is none yet.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    pub fn next_now(&mut self) -> Result<Option<Heard>, Error> {
        while self.heard.is_empty() {
            let heard = &mut self.heard;
            let received = self.notifications.receive_now("logged packets", |message| {
                heard.extend(LoggedPacket::decode(message).map(Heard::Packet));
            })?;
            match received {
                Received::All => {}
                Received::NotAll => heard.push_back(Heard::Lost),
                Received::Nothing => return Ok(None),
            }
        }
        Ok(self.heard.pop_front())
    }
}

impl AsFd for Listener {
    /// To wait at for something to be heard.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

/// `struct nfulnl_msg_config_mode`
fn copy_mode(range: u16) -> [u8; 6] {
    let [a, b, c, d] = u32::from(range).to_be_bytes();
    [a, b, c, d, COPY_PACKET, 0]
}

impl LoggedPacket {
    /// `None` for what is no such message.
    fn decode(message: &Message<'_>) -> Option<Self> {
        if message.kind != PACKET {
            return None;
        }
        let attributes = message.attributes();
        let hook = *attributes.get(PACKET_HDR)?.get(HOOK)?;
        Some(Self {
            prefix: attributes.string(PREFIX).unwrap_or_default().to_owned(),
            hook: HookPoint::from_number(u32::from(hook))?,
            input: attributes.be32(IFINDEX_INDEV),
            output: attributes.be32(IFINDEX_OUTDEV),
            bytes: attributes.get(PAYLOAD).unwrap_or_default().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::messages;

    fn packet(kind: u16, body: impl FnOnce(&mut Writer)) -> Option<LoggedPacket> {
        let mut writer = Writer::default();
        writer.message(kind, 0, 0, (2, 5), body);
        messages(writer.bytes()).next().and_then(|message| LoggedPacket::decode(&message))
    }

    #[test]
    fn a_packet_is_told_with_where_it_was() {
        let forwarded = packet(PACKET, |w| {
            w.attribute(PACKET_HDR, &[8, 0, 2, 0]);
            w.string(PREFIX, "why");
            w.be32(IFINDEX_INDEV, 7);
            w.attribute(PAYLOAD, &[0x45, 0]);
        });
        let expected = LoggedPacket {
            prefix: "why".to_owned(),
            hook: HookPoint::Forward,
            input: Some(7),
            output: None,
            bytes: vec![0x45, 0],
        };
        assert_eq!(forwarded, Some(expected));
        assert_eq!(packet(CONFIG, |w| w.attribute(PACKET_HDR, &[8, 0, 2, 0])), None);
        assert_eq!(packet(PACKET, |w| w.attribute(PACKET_HDR, &[8, 0, 9, 0])), None, "no such hook");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut writer = Writer::default();
            writer.message_with(PACKET, 0, 0, bytes, |_| {});
            for message in messages(writer.bytes()) {
                let _ = LoggedPacket::decode(&message);
            }
        }
    }
}
