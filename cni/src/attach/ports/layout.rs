//! The table: its maps, and the rules that ask them.

use kernel::nft::expr::{
    Action, Comparison, CtKey, Expr, FibFlags, Load, Match, MetaKey, NatKind, PayloadBase, Register,
    SetAccess, TupleDirection, TupleKey,
};
use kernel::nft::{
    self, Batch, Bytes, Chain, ChainType, DataType, Hook, HookPoint, MapTo, Nftables, Rule, Set, Table,
    Verdict,
};
use kernel::route::Family;

use crate::attach::Error;

const TABLE: &str = "pointsman-hostport";
const COMMENT: &str = "ports of this node that lead to pods";

/// Where keys are put together, and values that are looked at.
const KEY: Register = Register::new(0);
/// Where a pod's address and port are put.
const FOUND: Register = Register::new(10);

const PORTS: &str = "node-ports";
/// After Services (`dstnat`): a node port of a Service comes before a pod's.
const AFTER_SERVICES: i32 = -95;
/// Before others translate sources (`srcnat`).
const BEFORE_MASQUERADE: i32 = 95;
/// Before anything else looks (`raw`).
const RAW: i32 = -300;

/// What a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ports of one address of the node.
    Addressed,
    /// Ports of all its addresses.
    Ports,
    /// Whose sources are translated.
    Hairpin,
}

const KINDS: [Kind; 3] = [Kind::Addressed, Kind::Ports, Kind::Hairpin];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(super) fn table() -> Table {
    Table { family: nft::Family::Inet, name: TABLE.to_owned() }
}

pub(super) fn set_name(kind: Kind, family: Family) -> &'static str {
    match (kind, family) {
        (Kind::Addressed, Family::V4) => "addressed-ports-4",
        (Kind::Addressed, Family::V6) => "addressed-ports-6",
        (Kind::Ports, Family::V4) => "ports-4",
        (Kind::Ports, Family::V6) => "ports-6",
        (Kind::Hairpin, Family::V4) => "hairpins-4",
        (Kind::Hairpin, Family::V6) => "hairpins-6",
    }
}

fn set(kind: Kind, family: Family) -> Set {
    let address = address_type(family);
    let port = [DataType::InetProto, DataType::InetService];
    let key = match kind {
        Kind::Addressed => [[address].as_slice(), &port].concat(),
        Kind::Ports => port.to_vec(),
        Kind::Hairpin => [port.as_slice(), &[address, address]].concat(),
    };
    let is_map = kind != Kind::Hairpin;
    Set {
        name: set_name(kind, family).to_owned(),
        key,
        data: if is_map { MapTo::Value(vec![address, DataType::InetService]) } else { MapTo::Nothing },
        interval: !is_map,
        dynamic: false,
        size: None,
        comment: match kind {
            Kind::Addressed => "ports of one address of the node, and the pods they lead to",
            Kind::Ports => "ports of all addresses of the node, and the pods they lead to",
            Kind::Hairpin => "protocol, port, pod, and who gets the node's address when it reaches it so",
        }
        .to_owned(),
    }
}

fn address_type(family: Family) -> DataType {
    match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    }
}

/// Adds to a transaction what is missing of table, sets and rules.
pub(super) fn ensure(nft: &mut Nftables, batch: &mut Batch) -> Result<(), Error> {
    if is_there(nft)? {
        return Ok(());
    }
    batch.add_table(COMMENT);
    for (kind, family) in sets() {
        batch.add_set(&set(kind, family));
    }
    let chains = chains();
    for (chain, _) in &chains {
        batch.add_chain(chain);
        batch.flush_chain(&chain.name);
    }
    for (chain, rules) in &chains {
        rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
    }
    Ok(())
}

/// Whether the sets are there, and the rules are as they are to be.
pub(super) fn is_there(nft: &mut Nftables) -> Result<bool, Error> {
    let table = table();
    let found = nft.rules(&table)?;
    let chains = chains();
    let wanted = chains
        .iter()
        .flat_map(|(chain, rules)| rules.iter().map(|rule| (chain.name.as_str(), Some(rule.fingerprint()))));
    let same_rules = |(chain, _): &(Chain, Vec<Rule>)| {
        let found = found.iter().filter(|rule| rule.chain == chain.name).map(|rule| rule.fingerprint);
        let wanted =
            wanted.clone().filter(|(name, _)| *name == chain.name).map(|(_, fingerprint)| fingerprint);
        found.eq(wanted)
    };
    if !chains.iter().all(same_rules) {
        return Ok(false);
    }
    let found = nft.sets(&table)?;
    Ok(sets().all(|(kind, family)| found.iter().any(|found| found.is(&set(kind, family)))))
}

fn sets() -> impl Iterator<Item = (Kind, Family)> {
    KINDS.into_iter().flat_map(|kind| FAMILIES.map(|family| (kind, family)))
}

/// The chains with their rules; those that are called stand first.
fn chains() -> Vec<(Chain, Vec<Rule>)> {
    let base = |name: &str, kind, point, priority| Chain {
        name: name.to_owned(),
        hook: Some(Hook { kind, point, priority }),
    };
    let lead = FAMILIES.map(|family| [lead(Kind::Addressed, family), lead(Kind::Ports, family)]).concat();
    vec![
        (Chain { name: PORTS.to_owned(), hook: None }, lead),
        (base("prerouting", ChainType::Nat, HookPoint::Prerouting, AFTER_SERVICES), vec![to_this_node()]),
        (base("output", ChainType::Nat, HookPoint::Output, AFTER_SERVICES), vec![to_this_node()]),
        (
            base("postrouting", ChainType::Nat, HookPoint::Postrouting, BEFORE_MASQUERADE),
            FAMILIES.map(masquerade).to_vec(),
        ),
        (base("loopback", ChainType::Filter, HookPoint::Prerouting, RAW), vec![guard_loopback()]),
    ]
}

fn rule(comment: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule {
        expressions: parts.into_iter().flatten().collect(),
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
    }
}

fn compare(comparison: Comparison, with: &[u8]) -> Expr {
    Expr::Match(Match::Cmp { register: KEY, comparison, with: Bytes::from_slice(with) })
}

fn masked(mask: &[u8]) -> Expr {
    let xor = Bytes::from_elem(0, mask.len());
    Expr::Match(Match::Bitwise { register: KEY, mask: Bytes::from_slice(mask), xor })
}

fn is_of(family: Family) -> Vec<Expr> {
    let number = match family {
        Family::V4 => MetaKey::IPV4,
        Family::V6 => MetaKey::IPV6,
    };
    vec![Expr::Load(Load::Meta { key: MetaKey::NfProto, into: KEY }), compare(Comparison::Eq, &[number])]
}

/// The packet's own source or destination.
fn address(family: Family, of: FibFlags, into: Register) -> Expr {
    let offset = match (family, of) {
        (Family::V4, FibFlags::Saddr) => 12,
        (Family::V4, FibFlags::Daddr) => 16,
        (Family::V6, FibFlags::Saddr) => 8,
        (Family::V6, FibFlags::Daddr) => 24,
    };
    let len = if family == Family::V4 { 4 } else { 16 };
    Expr::Load(Load::Payload { base: PayloadBase::Network, offset, len, into })
}

/// What is sent to an address of this node is looked up; but ::1, which cannot leave it.
fn to_this_node() -> Rule {
    let kind = Expr::Load(Load::FibType { of: FibFlags::Daddr, into: KEY });
    let jump = Expr::Action(Action::Verdict(Verdict::Jump(PORTS.to_owned())));
    rule("", [vec![kind, compare(Comparison::Eq, &Load::LOCAL.to_ne_bytes()), jump]])
}

/// Leads to the pod that a port is of.
fn lead(kind: Kind, family: Family) -> Rule {
    let mut at = KEY;
    let mut parts = is_of(family);
    if family == Family::V6 {
        let mut loopback = [0; 16];
        loopback[15] = 1;
        parts.extend([address(family, FibFlags::Daddr, at), compare(Comparison::Ne, &loopback)]);
    }
    if kind == Kind::Addressed {
        parts.push(address(family, FibFlags::Daddr, at));
        at = at.after(address_type(family).width());
    }
    parts.push(Expr::Load(Load::Meta { key: MetaKey::L4Proto, into: at }));
    at = at.after(DataType::InetProto.padded());
    // Where TCP, UDP and SCTP have the destination's port.
    parts.push(Expr::Load(Load::Payload { base: PayloadBase::Transport, offset: 2, len: 2, into: at }));
    parts.push(Expr::Set(SetAccess::Lookup {
        map: set_name(kind, family).to_owned(),
        key: KEY,
        into: FOUND,
    }));
    parts.push(Expr::Action(Action::Nat {
        kind: NatKind::Dnat,
        family: match family {
            Family::V4 => nft::Family::Ip,
            Family::V6 => nft::Family::Ip6,
        },
        address: FOUND,
        port: Some(FOUND.after(address_type(family).width())),
    }));
    rule("", [parts])
}

/// Connections whose answers would not come by this node otherwise.
fn masquerade(family: Family) -> Rule {
    let translated = vec![
        Expr::Load(Load::Ct { key: CtKey::Status, into: KEY }),
        masked(&CtKey::STATUS_DNAT.to_ne_bytes()),
        compare(Comparison::Ne, &[0; 4]),
    ];
    let port = KEY.after(DataType::InetProto.padded());
    let pod = port.after(DataType::InetService.padded());
    let original = TupleDirection::Original;
    let key = vec![
        Expr::Load(Load::Ct { key: CtKey::Protocol, into: KEY }),
        Expr::Load(Load::CtTuple { key: TupleKey::DestinationPort, direction: original, into: port }),
        address(family, FibFlags::Daddr, pod),
        address(family, FibFlags::Saddr, pod.after(address_type(family).width())),
        Expr::Set(SetAccess::Contains {
            set: set_name(Kind::Hairpin, family).to_owned(),
            key: KEY,
            inverted: false,
        }),
    ];
    rule("", [is_of(family), translated, key, vec![Expr::Action(Action::Masquerade)]])
}

/// That 127.0.0.1 may leave this node is no invitation to come in by it.
fn guard_loopback() -> Rule {
    let from_elsewhere =
        vec![Expr::Load(Load::Meta { key: MetaKey::IifName, into: KEY }), compare(Comparison::Ne, b"lo\0")];
    let to_loopback = vec![
        address(Family::V4, FibFlags::Daddr, KEY),
        masked(&[0xff, 0, 0, 0]),
        compare(Comparison::Eq, &[127, 0, 0, 0]),
    ];
    let drop = vec![Expr::Action(Action::Verdict(Verdict::Drop))];
    rule("127.0.0.1 is for this node alone", [is_of(Family::V4), from_elsewhere, to_loopback, drop])
}
