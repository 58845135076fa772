//! Which rules a packet meets: what the kernel tells of packets that are traced (`NFT_MSG_TRACE`).

use std::net::SocketAddr;

use super::types::{Family, Table, Verdict};
use super::uapi::{data, msg, trace};
use crate::conntrack::Tuple;
use crate::netlink::{Attributes, Message};
use crate::packet;

/// `NFNLGRP_NFTRACE`
pub(crate) const GROUP: u32 = 9;

/// Something that a traced packet meets. Chains of other families than [`Family`]'s are not told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// The packet's number, the same at every step. Numbers come again.
    pub id: u32,
    /// The table that it is in.
    pub table: Table,
    /// The chain that it is in.
    pub chain: String,
    /// What it meets there.
    pub met: Met,
    /// Its addresses now, told with the first step of each base chain.
    pub addresses: Option<Tuple>,
}

/// What a packet meets in a chain. A verdict is `None` if it has no name here, such as that of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// A rule that applies.
    Rule {
        /// The rule's handle.
        handle: u64,
        /// What the rule decides.
        verdict: Option<Verdict>,
    },
    /// The chain's end, or a rule that returns: back to the calling chain, or to the policy.
    Return,
    /// The policy of a base chain: whether it is to accept.
    Policy {
        /// Else it is to drop.
        accept: bool,
    },
}

impl TraceStep {
    /// `None` for what is no such message.
    pub(crate) fn decode(message: &Message<'_>) -> Option<Self> {
        if message.kind != msg::TRACE {
            return None;
        }
        let attributes = message.attributes();
        let family = Family::from_number(message.family())?;
        Some(Self {
            id: attributes.be32(trace::ID)?,
            table: Table { family, name: attributes.string(trace::TABLE)?.to_owned() },
            chain: attributes.string(trace::CHAIN)?.to_owned(),
            met: met(attributes)?,
            addresses: addresses(attributes),
        })
    }
}

fn met(attributes: Attributes<'_>) -> Option<Met> {
    const ACCEPT: u32 = 1;
    match attributes.be32(trace::TYPE)? {
        trace::OF_POLICY => Some(Met::Policy { accept: attributes.be32(trace::POLICY)? == ACCEPT }),
        trace::OF_RETURN => Some(Met::Return),
        trace::OF_RULE => {
            let verdict = attributes.nested(trace::VERDICT)?;
            let code = verdict.be32(data::VERDICT_CODE)?.cast_signed();
            Some(Met::Rule {
                handle: attributes.be64(trace::RULE_HANDLE)?,
                verdict: Verdict::from_parts(code, verdict.string(data::VERDICT_CHAIN)),
            })
        }
        _ => None,
    }
}

/// From the packet's own headers, of which the kernel tells the first bytes: of IPv6 no extension header, behind which
/// the protocol is not found, and no filter matches.
fn addresses(attributes: Attributes<'_>) -> Option<Tuple> {
    let network = packet::network(attributes.get(trace::NETWORK_HEADER)?)?;
    let (from, to) = packet::ports(attributes.get(trace::TRANSPORT_HEADER)?)?;
    Some(Tuple {
        protocol: network.protocol,
        source: SocketAddr::new(network.source, from),
        destination: SocketAddr::new(network.destination, to),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::{Writer, messages};

    const IPV4: u8 = 2;

    fn step(family: u8, body: impl FnOnce(&mut Writer)) -> Writer {
        let mut writer = Writer::default();
        writer.message(msg::TRACE, 0, 0, (family, 0), |w| {
            w.be32(trace::ID, 7);
            w.string(trace::TABLE, "pointsman");
            w.string(trace::CHAIN, "services");
            body(w);
        });
        writer
    }

    fn decoded(writer: &Writer) -> Option<TraceStep> {
        messages(writer.bytes()).next().and_then(|message| TraceStep::decode(&message))
    }

    fn of_rule(w: &mut Writer) {
        w.be32(trace::TYPE, trace::OF_RULE);
        w.be64(trace::RULE_HANDLE, 12);
        w.nest(trace::VERDICT, |w| {
            w.be32(data::VERDICT_CODE, Verdict::Goto("n2".to_owned()).code().cast_unsigned());
            w.string(data::VERDICT_CHAIN, "n2");
        });
        let mut header = [0; 20];
        header[0] = 0x45;
        header[9] = 6;
        header[12..16].copy_from_slice(&[10, 180, 0, 3]);
        header[16..20].copy_from_slice(&[172, 30, 0, 10]);
        w.attribute(trace::NETWORK_HEADER, &header);
        w.attribute(trace::TRANSPORT_HEADER, &[0x0f, 0xa0, 0, 80, 0, 0, 0, 0]);
    }

    #[test]
    fn a_rule_is_told_with_its_verdict_and_the_packets_addresses() {
        let expected = TraceStep {
            id: 7,
            table: Table { family: Family::Ip, name: "pointsman".to_owned() },
            chain: "services".to_owned(),
            met: Met::Rule { handle: 12, verdict: Some(Verdict::Goto("n2".to_owned())) },
            addresses: Some(Tuple {
                protocol: 6,
                source: ([10, 180, 0, 3], 4000).into(),
                destination: ([172, 30, 0, 10], 80).into(),
            }),
        };
        assert_eq!(decoded(&step(IPV4, of_rule)), Some(expected));
    }

    #[test]
    fn a_verdict_without_a_name_is_still_a_step() {
        let found = decoded(&step(IPV4, |w| {
            w.be32(trace::TYPE, trace::OF_RULE);
            w.be64(trace::RULE_HANDLE, 3);
            w.nest(trace::VERDICT, |w| w.be32(data::VERDICT_CODE, 3));
        }));
        assert_eq!(found.map(|step| step.met), Some(Met::Rule { handle: 3, verdict: None }));
    }

    #[test]
    fn ends_of_chains_and_policies() {
        let of = |kind: u32, policy: Option<u32>| {
            decoded(&step(IPV4, |w| {
                w.be32(trace::TYPE, kind);
                if let Some(policy) = policy {
                    w.be32(trace::POLICY, policy);
                }
            }))
            .map(|step| step.met)
        };
        assert_eq!(of(trace::OF_RETURN, None), Some(Met::Return));
        assert_eq!(of(trace::OF_POLICY, Some(1)), Some(Met::Policy { accept: true }));
        assert_eq!(of(trace::OF_POLICY, Some(0)), Some(Met::Policy { accept: false }));
        assert_eq!(of(99, None), None);
    }

    #[test]
    fn other_families_are_left_out() {
        const BRIDGE: u8 = 7;
        assert_eq!(decoded(&step(BRIDGE, of_rule)), None);
    }

    #[test]
    fn ipv6_addresses_are_found() {
        let found = decoded(&step(10, |w| {
            let mut header = [0; 40];
            (header[0], header[6], header[23], header[39]) = (0x60, 17, 1, 2);
            w.be32(trace::TYPE, trace::OF_RETURN);
            w.attribute(trace::NETWORK_HEADER, &header);
            w.attribute(trace::TRANSPORT_HEADER, &[0, 53, 0, 54]);
        }));
        let addresses = found.and_then(|step| step.addresses).unwrap();
        let text = format!("{} {} {}", addresses.protocol, addresses.source, addresses.destination);
        assert_eq!(text, "17 [::1]:53 [::2]:54");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut writer = Writer::default();
            writer.message_with(msg::TRACE, 0, 0, bytes, |_| {});
            let _ = decoded(&writer);
        }

        #[test]
        fn damaged_messages_never_panic(at in 16_usize..160, with in any::<u8>()) {
            let mut bytes = step(IPV4, of_rule).bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            for message in messages(&bytes) {
                let _ = TraceStep::decode(&message);
            }
        }
    }
}
