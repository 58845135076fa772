//! Expressions that do something to the packet: verdict, meta set, nat, masquerade, reject, counter.

use super::{CtKey, MetaKey, Register, VERDICT_REGISTER};
use crate::netlink::Writer;
use crate::nft::types::{Family, Verdict};
use crate::nft::write::verdict;

/// Which address `nat` rewrites (`NFT_NAT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Snat,
    /// The destination.
    Dnat,
}

/// With which ICMP error a packet is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpCode {
    /// ICMP type 3 code 3, in an `ip` table.
    PortUnreachable,
    /// ICMPv6 type 1 code 4, in an `ip6` table.
    PortUnreachable6,
}

/// An expression with an effect on the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Decides.
    Verdict(Verdict),
    /// Sets the packet mark from a register, host order.
    SetMark {
        /// Register that holds the mark.
        from: Register,
    },
    /// Sets the connection's mark from a register, host order.
    SetConnectionMark {
        /// Register that holds the mark.
        from: Register,
    },
    /// Rewrites an address and port, once for the connection.
    Nat {
        /// Which.
        kind: NatKind,
        /// Family of the address.
        family: Family,
        /// First register of the address.
        address: Register,
        /// Register of the port, network order.
        port: Option<Register>,
    },
    /// Rewrites the source to the outgoing interface's address, with fully random ports.
    Masquerade,
    /// Drops the packet and answers with an ICMP error.
    Reject(IcmpCode),
    /// Counts packets and bytes.
    Counter,
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Verdict(_) => "immediate",
            Self::SetMark { .. } => "meta",
            Self::SetConnectionMark { .. } => "ct",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Counter => "counter",
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Verdict(decision) => {
                w.be32(1, VERDICT_REGISTER);
                w.nest(2, |w| verdict(w, decision));
            }
            Self::SetMark { from } => {
                w.be32(2, MetaKey::Mark.number());
                w.be32(3, from.number());
            }
            Self::SetConnectionMark { from } => {
                w.be32(2, CtKey::Mark.number());
                w.be32(4, from.number());
            }
            Self::Nat { kind, family, address, port } => {
                w.be32(
                    1,
                    match kind {
                        NatKind::Snat => 0,
                        NatKind::Dnat => 1,
                    },
                );
                w.be32(2, u32::from(family.number()));
                w.be32(3, address.number());
                if let Some(port) = port {
                    w.be32(5, port.number());
                }
            }
            Self::Masquerade => {
                /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
                const RANDOM_FULLY: u32 = 0x10;
                w.be32(1, RANDOM_FULLY);
            }
            Self::Reject(code) => {
                const ICMP_UNREACH: u32 = 0;
                w.be32(1, ICMP_UNREACH);
                w.attribute(
                    2,
                    &[match code {
                        IcmpCode::PortUnreachable => 3,
                        IcmpCode::PortUnreachable6 => 4,
                    }],
                );
            }
            Self::Counter => {
                w.be64(1, 0);
                w.be64(2, 0);
            }
        }
    }
}
