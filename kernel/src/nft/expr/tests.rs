use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::nft::types::{Family, Verdict};

fn register() -> impl Strategy<Value = Register> {
    (0_u32..16).prop_map(Register::new)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z-]{1,12}"
}

fn bytes(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), lengths).prop_map(Bytes::from_vec)
}

fn load() -> impl Strategy<Value = Load> {
    let base = prop_oneof![Just(PayloadBase::Network), Just(PayloadBase::Transport)];
    let meta = prop_oneof![
        Just(MetaKey::Mark),
        Just(MetaKey::IifName),
        Just(MetaKey::L4Proto),
        Just(MetaKey::NfProto)
    ];
    let ct = prop_oneof![Just(CtKey::State), Just(CtKey::Status), Just(CtKey::Mark), Just(CtKey::Protocol),];
    let tuple = prop_oneof![
        Just(TupleKey::SourceAddress),
        Just(TupleKey::DestinationAddress),
        Just(TupleKey::SourceAddress6),
        Just(TupleKey::DestinationAddress6),
        Just(TupleKey::SourcePort),
        Just(TupleKey::DestinationPort),
    ];
    let direction = prop_oneof![Just(TupleDirection::Original), Just(TupleDirection::Reply)];
    let of = prop_oneof![Just(FibFlags::Saddr), Just(FibFlags::Daddr)];
    prop_oneof![
        (base, any::<u32>(), any::<u32>(), register())
            .prop_map(|(base, offset, len, into)| { Load::Payload { base, offset, len, into } }),
        (meta, register()).prop_map(|(key, into)| Load::Meta { key, into }),
        (ct, register()).prop_map(|(key, into)| Load::Ct { key, into }),
        (tuple, direction, register()).prop_map(|(key, direction, into)| Load::CtTuple {
            key,
            direction,
            into
        }),
        (of, register()).prop_map(|(of, into)| Load::FibType { of, into }),
        (any::<u32>(), register()).prop_map(|(modulus, into)| Load::Random { modulus, into }),
        (bytes(1..17), register()).prop_map(|(value, into)| Load::Immediate { value, into }),
    ]
}

fn matching() -> impl Strategy<Value = Match> {
    let comparison = prop_oneof![
        Just(Comparison::Eq),
        Just(Comparison::Ne),
        Just(Comparison::Lt),
        Just(Comparison::Lte),
        Just(Comparison::Gt),
        Just(Comparison::Gte),
    ];
    let bits = vec(any::<(u8, u8)>(), 1..17);
    prop_oneof![
        (register(), bits).prop_map(|(register, bits)| {
            let (mask, xor): (Vec<u8>, Vec<u8>) = bits.into_iter().unzip();
            Match::Bitwise { register, mask: mask.into(), xor: xor.into() }
        }),
        (register(), comparison, bytes(1..17))
            .prop_map(|(register, comparison, with)| { Match::Cmp { register, comparison, with } }),
        any::<(u32, u32)>().prop_map(|(per_second, burst)| Match::Limit { per_second, burst }),
    ]
}

fn set_access() -> impl Strategy<Value = SetAccess> {
    let op = prop_oneof![Just(DynsetOp::Update), Just(DynsetOp::Delete)];
    let changed = (name(), op, register(), proptest::option::of(register()), proptest::option::of(1_u64..));
    prop_oneof![
        (name(), register(), any::<bool>())
            .prop_map(|(set, key, inverted)| { SetAccess::Contains { set, key, inverted } }),
        (name(), register(), register()).prop_map(|(map, key, into)| SetAccess::Lookup { map, key, into }),
        (name(), register()).prop_map(|(map, key)| SetAccess::VerdictLookup { map, key }),
        changed.prop_map(|(set, op, key, data, timeout_ms)| {
            SetAccess::Dynset { set, op, key, data, timeout_ms }
        }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let kind = prop_oneof![Just(NatKind::Snat), Just(NatKind::Dnat)];
    let family = prop_oneof![Just(Family::Ip), Just(Family::Ip6)];
    let with = prop_oneof![
        Just(RejectWith::PortUnreachable),
        Just(RejectWith::PortUnreachable6),
        Just(RejectWith::TcpReset),
    ];
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Continue),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ];
    prop_oneof![
        verdict.prop_map(Action::Verdict),
        register().prop_map(|from| Action::SetMark { from }),
        register().prop_map(|from| Action::SetConnectionMark { from }),
        (kind, family, register(), proptest::option::of(register()))
            .prop_map(|(kind, family, address, port)| Action::Nat { kind, family, address, port }),
        Just(Action::Masquerade),
        Just(Action::MasqueradeKeepingPorts),
        with.prop_map(Action::Reject),
        (any::<u16>(), "[a-z: ]{0,127}", any::<u32>()).prop_map(|(group, prefix, snaplen)| Action::Log {
            group,
            prefix,
            snaplen
        }),
        Just(Action::Counter),
    ]
}

fn expression() -> impl Strategy<Value = Expr> {
    prop_oneof![
        load().prop_map(Expr::Load),
        matching().prop_map(Expr::Match),
        set_access().prop_map(Expr::Set),
        action().prop_map(Expr::Action),
    ]
}

/// The names that decoders know, and one that none does.
fn kind() -> impl Strategy<Value = &'static str> {
    let names = [
        "payload",
        "meta",
        "ct",
        "fib",
        "numgen",
        "immediate",
        "bitwise",
        "cmp",
        "lookup",
        "dynset",
        "nat",
        "masq",
        "reject",
        "counter",
        "limit",
        "log",
        "quota",
    ];
    proptest::sample::select(names.to_vec())
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(written in vec(expression(), 0..12)) {
        let mut writer = Writer::default();
        written.iter().for_each(|expression| expression.encode(&mut writer));
        let read = InstalledExpr::decode_all(Attributes(writer.bytes()));
        prop_assert_eq!(read, written.into_iter().map(InstalledExpr::Known).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_attributes_never_panic(
        kind in kind(),
        attributes in vec((0_u16..12, prop_oneof![
            vec(any::<u8>(), 0..24),
            (0_u32..25).prop_map(|number| number.to_be_bytes().to_vec()),
        ]), 0..8),
    ) {
        let mut writer = Writer::default();
        writer.nest(uapi::LIST_ELEM, |w| {
            w.string(NAME, kind);
            w.nest(DATA, |w| attributes.iter().for_each(|(kind, payload)| w.attribute(*kind, payload)));
        });
        let read = InstalledExpr::decode_all(Attributes(writer.bytes()));
        prop_assert_eq!(read.len(), 1);
        // Whatever is understood can be said again, and means the same.
        if let InstalledExpr::Known(known) = &read[0] {
            let mut again = Writer::default();
            known.encode(&mut again);
            prop_assert_eq!(InstalledExpr::decode_all(Attributes(again.bytes())), read);
        } else {
            prop_assert_eq!(read, [InstalledExpr::Unknown { name: kind.to_owned() }]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let read = InstalledExpr::decode_all(Attributes(&bytes));
        prop_assert!(read.len() <= bytes.len() / 4);
    }
}
