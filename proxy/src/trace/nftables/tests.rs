//! Rule sets as our modes write them, in small, and packets on them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use endpoint_cache::Protocol;
use kernel::nft::expr::{
    Action, Comparison, CtKey, Expr, FibFlags, InstalledExpr, Load, Match, MetaKey, NatKind, PayloadBase,
    Register, RejectWith, SetAccess, TupleDirection, TupleKey,
};
use kernel::nft::{
    Bytes, Chain, ChainType, Data, DataType, Element, Family, Hook, HookPoint, ListedChain, ListedRule,
    Verdict,
};
use proptest::prelude::*;

use super::super::model::{End, Origin, Packet, Surroundings, Walk};
use super::path::walk;
use super::ranges;
use super::table::{Rules, Shape};

const R: Register = Register::new(0);
const SERVICE: [u8; 12] = [10, 96, 0, 10, 6, 0, 0, 0, 0, 80, 0, 0];

/// A table that is held here, and not in the kernel.
#[derive(Default)]
struct Held {
    chains: Vec<ListedChain>,
    rules: HashMap<String, Vec<ListedRule>>,
    sets: HashMap<String, (Rc<Shape>, Vec<Element>)>,
}

impl Rules for Held {
    fn name(&self) -> &str {
        "held"
    }

    fn chains(&self) -> &[ListedChain] {
        &self.chains
    }

    fn rules(&mut self, chain: &str) -> anyhow::Result<Rc<[ListedRule]>> {
        Ok(self.rules.get(chain).cloned().unwrap_or_default().into())
    }

    fn shape(&self, set: &str) -> Option<Rc<Shape>> {
        self.sets.get(set).map(|(shape, _)| Rc::clone(shape))
    }

    fn find(&mut self, set: &str, key: &[u8]) -> anyhow::Result<Option<Element>> {
        let Some((shape, elements)) = self.sets.get(set) else { return Ok(None) };
        if shape.is_interval {
            return Ok(ranges::find(elements, shape, key).cloned());
        }
        Ok(elements.iter().find(|element| element.key.as_slice() == key).cloned())
    }
}

impl Held {
    fn base(mut self, name: &str, kind: ChainType, point: HookPoint, priority: i32) -> Self {
        let chain = Chain { name: name.to_owned(), hook: Some(Hook { kind, point, priority }) };
        self.chains.push(ListedChain { chain, drops: false });
        self
    }

    fn rule(self, chain: &str, comment: &str, parts: &[Vec<Expr>]) -> Self {
        let known = parts.iter().flatten().cloned().map(InstalledExpr::Known);
        self.listed(chain, comment, known.collect())
    }

    fn listed(mut self, chain: &str, comment: &str, expressions: Vec<InstalledExpr>) -> Self {
        let comment = (!comment.is_empty()).then(|| comment.to_owned());
        self.rules.entry(chain.to_owned()).or_default().push(ListedRule { expressions, comment });
        self
    }

    fn map(
        mut self,
        name: &str,
        key: &[DataType],
        value: &[DataType],
        elements: Vec<(Vec<u8>, Data)>,
    ) -> Self {
        let key_len = key.iter().map(|field| field.padded()).sum();
        let shape = Shape {
            key_len,
            key: Some(key.to_vec()),
            value: (!value.is_empty()).then(|| value.to_vec()),
            is_map: elements.iter().any(|(_, data)| *data != Data::None),
            is_interval: false,
        };
        let element = |(key, data): (Vec<u8>, Data)| Element { key: key.into(), data, ..Element::default() };
        self.sets.insert(name.to_owned(), (Rc::new(shape), elements.into_iter().map(element).collect()));
        self
    }
}

struct Node;

impl Surroundings for Node {
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || address == IpAddr::from([192, 0, 2, 1])
    }

    fn interface_towards(&self, _: IpAddr) -> Option<(String, u32)> {
        None
    }
}

fn from_pod(to: &str) -> Packet {
    Packet {
        source: [10, 244, 1, 5].into(),
        destination: to.parse().unwrap(),
        protocol: Protocol::Tcp,
        origin: Origin::Interface { name: "veth1".to_owned(), index: 7 },
    }
}

fn from_node(to: &str) -> Packet {
    Packet { source: [192, 0, 2, 1].into(), origin: Origin::Node, ..from_pod(to) }
}

fn go(packet: &Packet, table: Held) -> Walk {
    walk(packet, &Node, vec![table]).unwrap()
}

/// Where it goes, in how many of a hundred cases.
fn ends(walk: &Walk) -> Vec<(String, i64)> {
    let percent = |share: f64| format!("{:.0}", share * 100.0).parse().unwrap();
    let mut ends: Vec<_> = walk
        .ways
        .iter()
        .map(|way| match &way.end {
            End::Endpoint { to, masquerade } => {
                (format!("{to}{}", if *masquerade { " masqueraded" } else { "" }), percent(way.share))
            }
            other => (format!("{other:?}"), percent(way.share)),
        })
        .collect();
    ends.sort();
    ends
}

fn steps(walk: &Walk) -> Vec<String> {
    let steps = walk.ways.iter().flat_map(|way| &way.steps);
    steps.map(|step| format!("{}: {}", step.place, step.what)).collect()
}

fn load(base: PayloadBase, offset: u32, len: u32, into: Register) -> Expr {
    Expr::Load(Load::Payload { base, offset, len, into })
}

fn source() -> Expr {
    load(PayloadBase::Network, 12, 4, R)
}

fn frontend() -> Vec<Expr> {
    vec![
        load(PayloadBase::Network, 16, 4, R),
        Expr::Load(Load::Meta { key: MetaKey::L4Proto, into: R.after(4) }),
        load(PayloadBase::Transport, 2, 2, R.after(8)),
    ]
}

fn cmp(comparison: Comparison, with: &[u8]) -> Expr {
    Expr::Match(Match::Cmp { register: R, comparison, with: Bytes::from_slice(with) })
}

fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Action(Action::Verdict(verdict))]
}

fn jump(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Jump(chain.to_owned()))
}

fn by_frontend(map: &str) -> Vec<Expr> {
    let lookup = Expr::Set(SetAccess::VerdictLookup { map: map.to_owned(), key: R });
    [frontend(), vec![lookup]].concat()
}

fn mark(bits: u32) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Meta { key: MetaKey::Mark, into: R }),
        Expr::Match(Match::Bitwise {
            register: R,
            mask: Bytes::from_slice(&(!bits).to_ne_bytes()),
            xor: Bytes::from_slice(&bits.to_ne_bytes()),
        }),
        Expr::Action(Action::SetMark { from: R }),
    ]
}

fn has(load: Load, bits: u32) -> Vec<Expr> {
    let (mask, xor) = (Bytes::from_slice(&bits.to_ne_bytes()), Bytes::from_slice(&[0; 4]));
    let masked = Expr::Match(Match::Bitwise { register: R, mask, xor });
    vec![Expr::Load(load), masked, cmp(Comparison::Ne, &[0; 4])]
}

fn dnat(at: Register) -> Expr {
    Expr::Action(Action::Nat {
        kind: NatKind::Dnat,
        family: Family::Ip,
        address: at,
        port: Some(at.after(4)),
    })
}

fn to_slot(slot: Load) -> Vec<Expr> {
    let slot_register = R.after(12);
    let lookup = SetAccess::Lookup { map: "endpoints".to_owned(), key: R, into: slot_register };
    [frontend(), vec![Expr::Load(slot), Expr::Set(lookup), dnat(slot_register)]].concat()
}

fn endpoint(number: u8) -> Vec<u8> {
    vec![10, 0, 1, number, 31, 144, 0, 0]
}

/// A service with endpoints in these slots of three; others' sources are masqueraded.
fn three(slots: &[u8]) -> Held {
    use DataType::{InetProto, InetService, Ipv4Addr, Mark};
    let slots = slots
        .iter()
        .map(|slot| {
            let key = [&SERVICE[..], &u32::from(*slot).to_ne_bytes()].concat();
            (key, Data::Value(endpoint(*slot).into()))
        })
        .collect();
    let goto = Data::Verdict(Verdict::Goto("pick-3".to_owned()));
    let (slot, first) = (R.after(12), Bytes::from_slice(&[0; 4]));
    Held::default()
        .base("nat-prerouting", ChainType::Nat, HookPoint::Prerouting, -100)
        .base("nat-postrouting", ChainType::Nat, HookPoint::Postrouting, 100)
        .map("service-ips", &[Ipv4Addr, InetProto, InetService], &[], vec![(SERVICE.to_vec(), goto)])
        .map("endpoints", &[Ipv4Addr, InetProto, InetService, Mark], &[Ipv4Addr, InetService], slots)
        .rule("nat-prerouting", "", &[jump("nothing")])
        .rule("nat-prerouting", "", &[jump("services")])
        .rule("services", "foreign", &[vec![source(), cmp(Comparison::Ne, &[10, 244, 1, 5])], mark(0x4000)])
        .rule("services", "", &[by_frontend("service-ips")])
        .rule("pick-3", "", &[to_slot(Load::Random { modulus: 3, into: slot })])
        .rule("pick-3", "the slot has just gone", &[to_slot(Load::Immediate { value: first, into: slot })])
        .rule(
            "nat-postrouting",
            "",
            &[
                has(Load::Meta { key: MetaKey::Mark, into: R }, 0x4000),
                vec![Expr::Action(Action::Masquerade)],
            ],
        )
}

fn expect(found: &Walk, expected: &[(&str, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(end, percent)| ((*end).to_owned(), *percent)).collect();
    assert_eq!(ends(found), expected, "{found:#?}");
}

#[test]
fn a_slot_is_drawn_and_its_endpoint_is_where_it_goes() {
    let walk = go(&from_pod("10.96.0.10:80"), three(&[0, 1, 2]));
    expect(&walk, &[("10.0.1.0:8080", 33), ("10.0.1.1:8080", 33), ("10.0.1.2:8080", 33)]);
    let steps = steps(&walk);
    let expected = [
        "nat-prerouting: jump services",
        "map service-ips: 10.96.0.10 . tcp . 80 : goto pick-3",
        "pick-3: numgen random mod 3 gives 0",
        "map endpoints: 10.96.0.10 . tcp . 80 . 0x00000000 : 10.0.1.0 . 8080",
        "pick-3: dnat to 10.0.1.0:8080",
    ];
    assert_eq!(steps[..5], expected, "and not a word of chains in which nothing happens");
    assert!(walk.unknown.is_empty());
}

#[test]
fn a_mark_decides_about_the_source_later() {
    let foreign = Packet { source: [203, 0, 113, 9].into(), ..from_pod("10.96.0.10:80") };
    let walk = go(&foreign, three(&[0, 1, 2]));
    let to = |slot| format!("10.0.1.{slot}:8080 masqueraded");
    expect(&walk, &[(&to(0), 33), (&to(1), 33), (&to(2), 33)]);
    assert_eq!(steps(&walk)[1], "services: meta mark set 0x00004000 comment \"foreign\"");
    // What is for this node is not routed on, and keeps its source.
    expect(
        &go(&Packet { source: [203, 0, 113, 9].into(), ..from_pod("192.0.2.1:80") }, three(&[])),
        &[("Untranslated { masquerade: false }", 100)],
    );
}

#[test]
fn ways_to_the_same_endpoint_are_one() {
    expect(&go(&from_pod("10.96.0.10:80"), three(&[0, 2])), &[("10.0.1.0:8080", 67), ("10.0.1.2:8080", 33)]);
    expect(&go(&from_pod("10.96.0.11:80"), three(&[0])), &[("Untranslated { masquerade: false }", 100)]);
}

#[test]
fn one_in_three_then_one_in_two_then_the_rest_is_a_third_each() {
    let choose = |table: Held, (number, modulus): (u8, u32)| {
        let draw = vec![Expr::Load(Load::Random { modulus, into: R }), cmp(Comparison::Eq, &[0; 4])];
        let value = Bytes::from_vec(endpoint(number));
        let to = vec![Expr::Load(Load::Immediate { value, into: R }), dnat(R)];
        table.rule("output", "", &[if modulus > 1 { draw } else { Vec::new() }, to])
    };
    let table = Held::default().base("output", ChainType::Nat, HookPoint::Output, -100);
    let table = [(1, 3), (2, 2), (3, 1)].into_iter().fold(table, choose);
    let walk = go(&from_node("10.96.0.10:80"), table);
    expect(&walk, &[("10.0.1.1:8080", 33), ("10.0.1.2:8080", 33), ("10.0.1.3:8080", 33)]);
}

/// What has no endpoints is rejected by what follows in the rule, or dropped, by the verdict of the map.
fn without_endpoints(chain: &str, point: HookPoint, fate: Verdict) -> Held {
    use DataType::{InetProto, InetService, Ipv4Addr};
    let key = [&[192, 0, 2, 1], &SERVICE[4..]].concat();
    let elements = vec![(SERVICE.to_vec(), Data::Verdict(fate.clone())), (key, Data::Verdict(fate))];
    let new = has(Load::Ct { key: CtKey::State, into: R }, CtKey::STATE_NEW);
    Held::default()
        .base(chain, ChainType::Filter, point, 0)
        .map("no-endpoint-services", &[Ipv4Addr, InetProto, InetService], &[], elements)
        .rule(chain, "", &[new, jump("check")])
        .rule(
            "check",
            "",
            &[by_frontend("no-endpoint-services"), verdict(Verdict::Goto("reject-chain".to_owned()))],
        )
        .rule(
            "reject-chain",
            "",
            &[vec![Expr::Action(Action::Counter), Expr::Action(Action::Reject(RejectWith::PortUnreachable))]],
        )
}

#[test]
fn a_verdict_to_continue_goes_on_with_the_rule_and_none_with_the_next() {
    let packet = from_pod("10.96.0.10:80");
    let walk = go(&packet, without_endpoints("forward", HookPoint::Forward, Verdict::Continue));
    expect(&walk, &[("Rejected", 100)]);
    assert_eq!(steps(&walk).last().map(String::as_str), Some("reject-chain: reject"));
    expect(
        &go(&packet, without_endpoints("forward", HookPoint::Forward, Verdict::Drop)),
        &[("Dropped", 100)],
    );
    let other =
        go(&from_pod("10.96.0.10:81"), without_endpoints("forward", HookPoint::Forward, Verdict::Drop));
    expect(&other, &[("Untranslated { masquerade: false }", 100)]);
    assert!(steps(&other).is_empty(), "{other:?}");
}

#[test]
fn what_this_node_sends_to_itself_comes_in_again() {
    let input = || without_endpoints("input", HookPoint::Input, Verdict::Continue);
    expect(&go(&from_node("192.0.2.1:80"), input()), &[("Rejected", 100)]);
    expect(&go(&from_node("10.96.0.10:80"), input()), &[("Untranslated { masquerade: false }", 100)]);
}

#[test]
fn a_chain_that_was_left_by_goto_is_not_come_back_to() {
    let table = |call: Verdict| {
        let ports = |port: &[u8]| vec![load(PayloadBase::Transport, 2, 2, R), cmp(Comparison::Eq, port)];
        Held::default()
            .base("forward", ChainType::Filter, HookPoint::Forward, 0)
            .rule("forward", "", &[verdict(call)])
            .rule("forward", "", &[verdict(Verdict::Drop)])
            .rule("called", "", &[ports(&[0, 80]), verdict(Verdict::Return)])
            .rule("called", "", &[verdict(Verdict::Accept)])
    };
    let (jump, goto) = (Verdict::Jump("called".to_owned()), Verdict::Goto("called".to_owned()));
    expect(&go(&from_pod("10.96.0.10:80"), table(jump.clone())), &[("Dropped", 100)]);
    expect(&go(&from_pod("10.96.0.10:81"), table(jump)), &[("Untranslated { masquerade: false }", 100)]);
    let mut dropping = table(goto.clone());
    expect(&go(&from_pod("10.96.0.10:80"), table(goto)), &[("Untranslated { masquerade: false }", 100)]);
    dropping.chains[0].drops = true;
    let walk = go(&from_pod("10.96.0.10:80"), dropping);
    expect(&walk, &[("Dropped", 100)]);
    assert_eq!(steps(&walk).last().map(String::as_str), Some("forward: policy drop"));
}

#[test]
fn what_is_not_understood_is_told_once_and_taken_not_to_match() {
    let foreign = |table: Held| {
        let quota = InstalledExpr::Unknown { name: "quota".to_owned() };
        let drop = InstalledExpr::Known(Expr::Action(Action::Verdict(Verdict::Drop)));
        table.listed("nat-prerouting", "", vec![quota, drop])
    };
    let sport = vec![load(PayloadBase::Transport, 0, 2, R)];
    let table = foreign(foreign(three(&[]))).rule("nat-prerouting", "", &[sport, verdict(Verdict::Drop)]);
    let walk = go(&from_pod("10.96.0.11:80"), table);
    expect(&walk, &[("Untranslated { masquerade: false }", 100)]);
    assert_eq!(walk.unknown.len(), 2, "{:?}", walk.unknown);
    assert!(walk.unknown[0].contains("nat-prerouting") && walk.unknown[0].contains("quota"));
    assert!(walk.unknown[1].contains("source port"));
}

#[test]
fn a_connection_has_the_protocol_of_its_packet() {
    let of = |number: u8| {
        let protocol = Expr::Load(Load::Ct { key: CtKey::Protocol, into: R });
        let parts = [vec![protocol, cmp(Comparison::Eq, &[number])], verdict(Verdict::Drop)];
        let forward = Held::default().base("forward", ChainType::Filter, HookPoint::Forward, 0);
        ends(&go(&from_pod("10.96.0.10:80"), forward.rule("forward", "", &parts)))
    };
    assert_eq!(of(6), [("Dropped".to_owned(), 100)]);
    assert_eq!(of(17), [("Untranslated { masquerade: false }".to_owned(), 100)]);
}

/// A rule that drops what has this in its conntrack entry.
fn drops(table: Held, chain: &str, key: TupleKey, direction: TupleDirection, with: &[u8]) -> Held {
    let load = Expr::Load(Load::CtTuple { key, direction, into: R });
    table.rule(chain, "", &[vec![load, cmp(Comparison::Eq, with)], verdict(Verdict::Drop)])
}

#[test]
fn a_connection_is_known_by_where_it_was_sent_and_by_who_answers() {
    use TupleDirection::{Original, Reply};
    use TupleKey::{DestinationAddress, DestinationPort, SourceAddress, SourcePort};
    let forward = |key, direction, with: &[u8]| {
        let table = three(&[1]).base("forward", ChainType::Filter, HookPoint::Forward, 0);
        let walk = go(&from_pod("10.96.0.10:80"), drops(table, "forward", key, direction, with));
        assert!(walk.unknown.is_empty(), "{:?}", walk.unknown);
        walk.ways.iter().any(|way| way.end == End::Dropped)
    };
    for (key, direction, with) in [
        (SourceAddress, Original, &[10, 244, 1, 5][..]),
        (DestinationAddress, Original, &[10, 96, 0, 10]),
        (DestinationPort, Original, &[0, 80]),
        (SourceAddress, Reply, &[10, 0, 1, 1]),
        (SourcePort, Reply, &8080_u16.to_be_bytes()),
        (DestinationAddress, Reply, &[10, 244, 1, 5]),
    ] {
        assert!(forward(key, direction, with), "{key:?} {direction:?} is not {with:?}");
    }
    assert!(!forward(DestinationAddress, Original, &[10, 0, 1, 1]), "not where it is sent on");
    assert!(!forward(TupleKey::DestinationAddress6, Original, &[10, 96, 0, 10]), "nor what it has not");
}

#[test]
fn what_a_connection_does_not_tell_is_said_to_be_unknown() {
    use TupleDirection::{Original, Reply};
    let forward = || Held::default().base("forward", ChainType::Filter, HookPoint::Forward, 0);
    let to = "10.96.0.10:80";
    for (key, direction) in [(TupleKey::SourcePort, Original), (TupleKey::DestinationPort, Reply)] {
        let walk = go(&from_pod(to), drops(forward(), "forward", key, direction, &[0, 80]));
        assert!(walk.unknown.iter().any(|said| said.contains("source port")), "{:?}", walk.unknown);
    }
    let after = Held::default()
        .base("nat", ChainType::Nat, HookPoint::Postrouting, 100)
        .base("after", ChainType::Filter, HookPoint::Postrouting, 200)
        .rule("nat", "", &[vec![Expr::Action(Action::Masquerade)]]);
    let walk =
        go(&from_pod(to), drops(after, "after", TupleKey::DestinationAddress, Reply, &[10, 244, 1, 5]));
    expect(&walk, &[("Untranslated { masquerade: true }", 100)]);
    assert_eq!(walk.unknown.len(), 1, "as whom it is sent is not known: {:?}", walk.unknown);
}

#[test]
fn what_is_logged_within_a_limit_goes_on() {
    let log = Expr::Action(Action::Log { group: 5, prefix: "why".to_owned(), snaplen: 64 });
    let limit = Expr::Match(Match::Limit { per_second: 1, burst: 1 });
    let table = Held::default()
        .base("forward", ChainType::Filter, HookPoint::Forward, 0)
        .rule("forward", "", &[vec![limit, log]])
        .rule("forward", "", &[vec![Expr::Action(Action::Reject(RejectWith::TcpReset))]]);
    let walk = go(&from_pod("10.96.0.10:80"), table);
    expect(&walk, &[("Rejected", 100)]);
    assert_eq!(steps(&walk), ["forward: reject with tcp reset"]);
    assert!(walk.unknown.is_empty());
}

#[test]
fn what_cannot_be_reset_is_dropped() {
    let table = Held::default().base("forward", ChainType::Filter, HookPoint::Forward, 0).rule(
        "forward",
        "",
        &[vec![Expr::Action(Action::Reject(RejectWith::TcpReset))]],
    );
    let datagram = Packet { protocol: Protocol::Udp, ..from_pod("10.96.0.10:80") };
    expect(&go(&datagram, table), &[("Dropped", 100)]);
}

#[test]
fn rules_that_lead_in_a_circle_come_to_an_end() {
    let table = Held::default()
        .base("forward", ChainType::Filter, HookPoint::Forward, 0)
        .rule("forward", "", &[jump("forward")])
        .rule("forward", "", &[jump("forward")]);
    let walk = go(&from_pod("10.96.0.10:80"), table);
    expect(&walk, &[("Untranslated { masquerade: false }", 100)]);
    assert_eq!(walk.unknown.len(), 1);
}

fn any_expression() -> impl Strategy<Value = Expr> {
    let chain = || (0..3_u8).prop_map(|number| format!("c{number}"));
    let register = || (0..16_u32).prop_map(Register::new);
    let bytes = || proptest::collection::vec(any::<u8>(), 1..9).prop_map(Bytes::from_vec);
    prop_oneof![
        (0..20_u32, 0..9_u32, register()).prop_map(|(offset, len, into)| load(
            PayloadBase::Network,
            offset,
            len,
            into
        )),
        (0..4_u32, register()).prop_map(|(modulus, into)| Expr::Load(Load::Random { modulus, into })),
        register().prop_map(|into| Expr::Load(Load::FibType { of: FibFlags::Daddr, into })),
        (bytes(), register()).prop_map(|(value, into)| Expr::Load(Load::Immediate { value, into })),
        (register(), bytes()).prop_map(|(register, with)| {
            Expr::Match(Match::Cmp { register, comparison: Comparison::Ne, with })
        }),
        register().prop_map(dnat_if_it_fits),
        register().prop_map(|from| Expr::Action(Action::SetMark { from })),
        register().prop_map(|key| Expr::Set(SetAccess::Contains {
            set: "none".to_owned(),
            key,
            inverted: true
        })),
        chain().prop_map(|chain| Expr::Action(Action::Verdict(Verdict::Jump(chain)))),
        chain().prop_map(|chain| Expr::Action(Action::Verdict(Verdict::Goto(chain)))),
        Just(Expr::Action(Action::Verdict(Verdict::Return))),
        Just(Expr::Action(Action::Reject(RejectWith::PortUnreachable))),
        Just(Expr::Action(Action::Masquerade)),
    ]
}

fn dnat_if_it_fits(at: Register) -> Expr {
    if at.byte() < 60 { dnat(at) } else { Expr::Action(Action::Counter) }
}

proptest! {
    #[test]
    fn whatever_the_rules_are_the_shares_of_all_ways_add_up_to_one(
        rules in proptest::collection::vec((0..3_u8, proptest::collection::vec(any_expression(), 0..5)), 0..8),
        own: bool,
    ) {
        // Chains lead on to later ones only, as the kernel sees to.
        let leads_on = |from: u8, expression: &Expr| match expression {
            Expr::Action(Action::Verdict(Verdict::Jump(to) | Verdict::Goto(to))) => to.as_str() > format!("c{from}").as_str(),
            _ => true,
        };
        let table = Held::default()
            .base("c0", ChainType::Nat, HookPoint::Prerouting, -100)
            .base("c0", ChainType::Nat, HookPoint::Output, -100)
            .base("c1", ChainType::Filter, HookPoint::Forward, 0)
            .base("c2", ChainType::Nat, HookPoint::Postrouting, 100);
        let table = rules.into_iter().fold(table, |table, (chain, mut rule)| {
            rule.retain(|expression| leads_on(chain, expression));
            table.rule(&format!("c{chain}"), "", &[rule])
        });
        let packet = if own { from_node("10.96.0.10:80") } else { from_pod("10.96.0.10:80") };
        let walk = go(&packet, table);
        let whole: f64 = walk.ways.iter().map(|way| way.share).sum();
        prop_assert!((whole - 1.0).abs() < 1e-9, "{whole}: {walk:?}");
    }
}
