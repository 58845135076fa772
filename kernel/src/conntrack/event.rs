//! What the kernel tells of connections as they come, change and go (`ctnetlink_conntrack_event`).

use std::net::SocketAddr;

use super::{
    CTA_PROTO_DST_PORT, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_STATUS, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY, SUBSYSTEM, address, port,
};
use crate::netlink::{Attributes, Message, NLM_F_CREATE};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY`
pub(crate) const GROUPS: [u32; 3] = [1, 2, 3];

/// `IPCTNL_MSG_CT_NEW`: of new connections, and of changes.
const NEW: u16 = SUBSYSTEM << 8;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_SCTP: u16 = 3;
/// `CTA_PROTOINFO_TCP_STATE` and `CTA_PROTOINFO_SCTP_STATE`
const STATE: u16 = 1;
/// Bit of `CTA_STATUS`: packets were seen in both directions (`IPS_SEEN_REPLY`).
const SEEN_REPLY: u32 = 1 << 1;

/// States of a TCP connection, as `enum tcp_conntrack` numbers them.
const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];
/// States of an SCTP association, as `enum sctp_conntrack` numbers them.
const SCTP_STATES: [&str; 9] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

/// One direction of a connection: `struct nf_conntrack_tuple` of a protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// Its first packet left the node's rules.
    New,
    /// It was answered, or its state changed.
    Updated,
    /// It is forgotten.
    Ended,
}

/// News of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// What happened.
    pub change: FlowChange,
    /// The connection as its client sees it.
    pub original: Tuple,
    /// How answers come: from who answers in truth, to the source that they see.
    pub reply: Tuple,
    /// Whether there was an answer, if the kernel says.
    pub answered: Option<bool>,
    /// Its state in the kernel's word, of a protocol that has states, if the kernel says.
    pub state: Option<&'static str>,
}

impl FlowEvent {
    /// `None` for what is no such message, and for protocols without ports.
    pub(crate) fn decode(message: &Message<'_>) -> Option<Self> {
        let change = match message.kind {
            NEW if message.flags & NLM_F_CREATE != 0 => FlowChange::New,
            NEW => FlowChange::Updated,
            DELETE => FlowChange::Ended,
            _ => return None,
        };
        let attributes = message.attributes();
        Some(Self {
            change,
            original: tuple(attributes.nested(CTA_TUPLE_ORIG)?)?,
            reply: tuple(attributes.nested(CTA_TUPLE_REPLY)?)?,
            answered: attributes.be32(CTA_STATUS).map(|status| status & SEEN_REPLY != 0),
            state: attributes.nested(CTA_PROTOINFO).and_then(state),
        })
    }
}

fn tuple(tuple: Attributes<'_>) -> Option<Tuple> {
    let protocol = *tuple.nested(CTA_TUPLE_PROTO)?.get(CTA_PROTO_NUM)?.first()?;
    let source = (address(tuple, 0)?, port(tuple, CTA_PROTO_SRC_PORT)?).into();
    let destination = (address(tuple, 1)?, port(tuple, CTA_PROTO_DST_PORT)?).into();
    Some(Tuple { protocol, source, destination })
}

fn state(info: Attributes<'_>) -> Option<&'static str> {
    let of = |protocol: u16, names: &[&'static str]| {
        let number = *info.nested(protocol)?.get(STATE)?.first()?;
        names.get(usize::from(number)).copied()
    };
    of(CTA_PROTOINFO_TCP, &TCP_STATES).or_else(|| of(CTA_PROTOINFO_SCTP, &SCTP_STATES))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::{Writer, messages};

    /// A connection to 172.30.0.10:80 that 10.180.0.1:8080 answers.
    fn event(kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) -> Writer {
        let side = |w: &mut Writer, kind, from: ([u8; 4], u16), to: ([u8; 4], u16)| {
            w.nest(kind, |w| {
                w.nest(super::super::CTA_TUPLE_IP, |w| {
                    w.attribute(1, &from.0);
                    w.attribute(2, &to.0);
                });
                w.nest(CTA_TUPLE_PROTO, |w| {
                    w.attribute(CTA_PROTO_NUM, &[6]);
                    w.attribute(CTA_PROTO_SRC_PORT, &from.1.to_be_bytes());
                    w.attribute(CTA_PROTO_DST_PORT, &to.1.to_be_bytes());
                });
            });
        };
        let mut writer = Writer::default();
        writer.message(kind, flags, 0, (2, 0), |w| {
            side(w, CTA_TUPLE_ORIG, ([10, 180, 0, 3], 4000), ([172, 30, 0, 10], 80));
            side(w, CTA_TUPLE_REPLY, ([10, 180, 0, 1], 8080), ([10, 180, 0, 3], 4000));
            body(w);
        });
        writer
    }

    fn decoded(writer: &Writer) -> Option<FlowEvent> {
        messages(writer.bytes()).next().and_then(|message| FlowEvent::decode(&message))
    }

    #[test]
    fn a_new_connection_tells_who_answers() {
        let found = decoded(&event(NEW, NLM_F_CREATE, |w| {
            w.be32(CTA_STATUS, 1 << 3 | 1 << 5);
            w.nest(CTA_PROTOINFO, |w| w.nest(CTA_PROTOINFO_TCP, |w| w.attribute(STATE, &[1])));
        }));
        let tuple = |source: ([u8; 4], u16), destination: ([u8; 4], u16)| Tuple {
            protocol: 6,
            source: source.into(),
            destination: destination.into(),
        };
        let expected = FlowEvent {
            change: FlowChange::New,
            original: tuple(([10, 180, 0, 3], 4000), ([172, 30, 0, 10], 80)),
            reply: tuple(([10, 180, 0, 1], 8080), ([10, 180, 0, 3], 4000)),
            answered: Some(false),
            state: Some("SYN_SENT"),
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn changes_and_ends_are_told_apart() {
        let updated = decoded(&event(NEW, 0, |w| {
            w.be32(CTA_STATUS, SEEN_REPLY);
            w.nest(CTA_PROTOINFO, |w| w.nest(CTA_PROTOINFO_SCTP, |w| w.attribute(STATE, &[4])));
        }));
        let said = updated.map(|event| (event.change, event.answered, event.state));
        assert_eq!(said, Some((FlowChange::Updated, Some(true), Some("ESTABLISHED"))));
        let ended = decoded(&event(DELETE, 0, |_| {}));
        let said = ended.map(|event| (event.change, event.answered, event.state));
        assert_eq!(said, Some((FlowChange::Ended, None, None)));
        assert_eq!(decoded(&event(SUBSYSTEM << 8 | 1, 0, |_| {})), None);
    }

    #[test]
    fn a_state_without_a_name_is_left_out() {
        let found = decoded(&event(NEW, 0, |w| {
            w.nest(CTA_PROTOINFO, |w| w.nest(CTA_PROTOINFO_TCP, |w| w.attribute(STATE, &[200])));
        }));
        assert_eq!(found.map(|event| event.state), Some(None));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4_u16) {
            let mut writer = Writer::default();
            writer.message_with(SUBSYSTEM << 8 | kind, 0, 0, bytes, |_| {});
            let _ = decoded(&writer);
        }

        #[test]
        fn damaged_messages_never_panic(at in 20_usize..140, with in any::<u8>()) {
            let mut bytes = event(NEW, NLM_F_CREATE, |w| w.be32(CTA_STATUS, 8)).bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            for message in messages(&bytes) {
                let _ = FlowEvent::decode(&message);
            }
        }
    }
}
