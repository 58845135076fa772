//! Building blocks of rules: runs of expressions that mean one thing.

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::nft::expr::{
    Action, Comparison, CtKey, Expr, FibFlags, Load, Match, MetaKey, NatKind, PayloadBase, Register,
    SetAccess,
};
use kernel::nft::{self, Bytes, Rule, Verdict, octets};

use super::layout::{SetName, address_type};
use crate::context::{Context, Detector};

/// Where single values go that are looked at once.
const SCRATCH: Register = Register::new(0);

/// Whether a condition must hold or must not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Is,
    IsNot,
}

impl When {
    fn comparison(self) -> Comparison {
        match self {
            Self::Is => Comparison::Eq,
            Self::IsNot => Comparison::Ne,
        }
    }
}

/// A rule from runs of expressions.
pub(crate) fn rule(comment: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule {
        expressions: parts.into_iter().flatten().collect(),
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
    }
}

/// Bytes of an address.
pub(crate) fn address_width(family: Family) -> usize {
    address_type(family).width()
}

pub(crate) fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Action(Action::Verdict(verdict))]
}

pub(crate) fn jump(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Jump(chain.to_owned()))
}

pub(crate) fn action(action: Action) -> Vec<Expr> {
    vec![Expr::Action(action)]
}

pub(crate) fn source_address(family: Family, into: Register) -> Expr {
    address(family, 12, 8, into)
}

pub(crate) fn destination_address(family: Family, into: Register) -> Expr {
    address(family, 16, 24, into)
}

fn address(family: Family, v4_offset: u32, v6_offset: u32, into: Register) -> Expr {
    let (offset, len) = match family {
        Family::V4 => (v4_offset, 4),
        Family::V6 => (v6_offset, 16),
    };
    Expr::Load(Load::Payload { base: PayloadBase::Network, offset, len, into })
}

/// Bytes of `protocol . port` in registers.
pub(crate) const PROTOCOL_AND_PORT_WIDTH: usize = 8;

/// Bytes of `address . protocol . port` in registers.
pub(crate) fn frontend_width(family: Family) -> usize {
    address_width(family) + PROTOCOL_AND_PORT_WIDTH
}

/// `meta l4proto . th dport`
pub(crate) fn protocol_and_port(into: Register) -> Vec<Expr> {
    let port = Load::Payload { base: PayloadBase::Transport, offset: 2, len: 2, into: into.after(4) };
    vec![Expr::Load(Load::Meta { key: MetaKey::L4Proto, into }), Expr::Load(port)]
}

/// `ip daddr . meta l4proto . th dport`
pub(crate) fn frontend(family: Family, into: Register) -> Vec<Expr> {
    let mut parts = vec![destination_address(family, into)];
    parts.extend(protocol_and_port(into.after(address_width(family))));
    parts
}

/// A verdict map applied to the frontend of the packet.
pub(crate) fn frontend_verdict(family: Family, map: SetName) -> Vec<Expr> {
    let mut parts = frontend(family, SCRATCH);
    parts.push(verdict_lookup(map, SCRATCH));
    parts
}

/// A verdict map applied to the protocol and port of the packet.
pub(crate) fn node_port_verdict(map: SetName) -> Vec<Expr> {
    let mut parts = protocol_and_port(SCRATCH);
    parts.push(verdict_lookup(map, SCRATCH));
    parts
}

/// Leads a packet by its frontend: `map` gives the number of a chain, and `picks` the verdict that goes there.
pub(crate) fn frontend_lead(family: Family, map: SetName, picks: SetName) -> Vec<Expr> {
    let mut parts = frontend(family, SCRATCH);
    parts.extend(lead(map, SCRATCH, SCRATCH.after(frontend_width(family)), picks));
    parts
}

/// Leads a packet by its protocol and port.
pub(crate) fn node_port_lead(map: SetName, picks: SetName) -> Vec<Expr> {
    let mut parts = protocol_and_port(SCRATCH);
    parts.extend(lead(map, SCRATCH, SCRATCH.after(PROTOCOL_AND_PORT_WIDTH), picks));
    parts
}

/// Two lookups, the second by what the first has found. On its way from one to the other the number passes through the
/// packet mark, which is restored at once: the kernel can do without, but `nft list` aborts over a key that comes
/// straight out of a map (assertion `consumed > 0` in all versions up to 1.1).
fn lead(map: SetName, key: Register, found: Register, picks: SetName) -> Vec<Expr> {
    let mark = found.after(4);
    let number = mark.after(4);
    let load_mark = |into| Expr::Load(Load::Meta { key: MetaKey::Mark, into });
    let set_mark = |from| Expr::Action(Action::SetMark { from });
    vec![
        lookup(map, key, found),
        load_mark(mark),
        set_mark(found),
        load_mark(number),
        set_mark(mark),
        verdict_lookup(picks, number),
    ]
}

fn verdict_lookup(map: SetName, key: Register) -> Expr {
    Expr::Set(SetAccess::VerdictLookup { map: map.as_str().to_owned(), key })
}

pub(crate) fn contains(set: SetName, key: Register, when: When) -> Expr {
    Expr::Set(SetAccess::Contains { set: set.as_str().to_owned(), key, inverted: when == When::IsNot })
}

pub(crate) fn lookup(map: SetName, key: Register, into: Register) -> Expr {
    Expr::Set(SetAccess::Lookup { map: map.as_str().to_owned(), key, into })
}

pub(crate) fn new_connection() -> Vec<Expr> {
    host_order_bits(Expr::Load(Load::Ct { key: CtKey::State, into: SCRATCH }), CtKey::STATE_NEW)
}

pub(crate) fn destination_was_translated() -> Vec<Expr> {
    host_order_bits(Expr::Load(Load::Ct { key: CtKey::Status, into: SCRATCH }), CtKey::STATUS_DNAT)
}

pub(crate) fn has_mark(mark: u32) -> Vec<Expr> {
    host_order_bits(Expr::Load(Load::Meta { key: MetaKey::Mark, into: SCRATCH }), mark)
}

/// Goes on if any of the bits is set.
fn host_order_bits(load: Expr, bits: u32) -> Vec<Expr> {
    vec![load, bitwise(&bits.to_ne_bytes(), &[0; 4]), compare(Comparison::Ne, Bytes::from_slice(&[0; 4]))]
}

/// `meta mark set mark or MARK`
pub(crate) fn set_mark(mark: u32) -> Vec<Expr> {
    change_mark(!mark, mark)
}

/// `meta mark set mark xor MARK`: takes a mark away that is there.
pub(crate) fn clear_mark(mark: u32) -> Vec<Expr> {
    change_mark(u32::MAX, mark)
}

fn change_mark(mask: u32, xor: u32) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Meta { key: MetaKey::Mark, into: SCRATCH }),
        bitwise(&mask.to_ne_bytes(), &xor.to_ne_bytes()),
        Expr::Action(Action::SetMark { from: SCRATCH }),
    ]
}

/// Traffic of this node's pods, or all other traffic; `None` if that cannot be told.
pub(crate) fn from_local_pods(context: &Context, when: When) -> Option<Vec<Expr>> {
    match &context.detector {
        Detector::None => None,
        Detector::Source(range) => Some(within(source_address(context.family, SCRATCH), *range, when)),
        Detector::Interface(name) => {
            let mut padded = Bytes::from_slice(name.as_bytes());
            padded.resize(16, 0);
            Some(input_interface(padded, when))
        }
        Detector::InterfacePrefix(prefix) => {
            Some(input_interface(Bytes::from_slice(prefix.as_bytes()), when))
        }
    }
}

fn input_interface(name: Bytes, when: When) -> Vec<Expr> {
    let load = Expr::Load(Load::Meta { key: MetaKey::IifName, into: SCRATCH });
    vec![load, compare(when.comparison(), name)]
}

/// The packet comes from, or goes to, an address of this host.
pub(crate) fn is_local_address(of: FibFlags) -> Vec<Expr> {
    let local = Bytes::from_slice(&Load::LOCAL.to_ne_bytes());
    vec![Expr::Load(Load::FibType { of, into: SCRATCH }), compare(Comparison::Eq, local)]
}

pub(crate) fn to_range(family: Family, range: IpNet, when: When) -> Vec<Expr> {
    within(destination_address(family, SCRATCH), range, when)
}

fn within(load: Expr, range: IpNet, when: When) -> Vec<Expr> {
    let masked = bitwise(&octets(range.netmask()), &vec![0; octets(range.addr()).len()]);
    vec![load, masked, compare(when.comparison(), octets(range.network()))]
}

fn bitwise(mask: &[u8], xor: &[u8]) -> Expr {
    Expr::Match(Match::Bitwise {
        register: SCRATCH,
        mask: Bytes::from_slice(mask),
        xor: Bytes::from_slice(xor),
    })
}

fn compare(comparison: Comparison, with: Bytes) -> Expr {
    Expr::Match(Match::Cmp { register: SCRATCH, comparison, with })
}

/// Goes on only if a register holds these bytes.
pub(crate) fn equals(register: Register, with: Bytes) -> Expr {
    Expr::Match(Match::Cmp { register, comparison: Comparison::Eq, with })
}

/// Translates the destination to the address and port that stand in registers one after the other.
pub(crate) fn dnat(family: Family, endpoint: Register) -> Expr {
    Expr::Action(Action::Nat {
        kind: NatKind::Dnat,
        family: match family {
            Family::V4 => nft::Family::Ip,
            Family::V6 => nft::Family::Ip6,
        },
        address: endpoint,
        port: Some(endpoint.after(address_width(family))),
    })
}
