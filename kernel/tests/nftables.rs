//! The nftables layer against the kernel: what is written is in force, is read back the same, and `nft` can list it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use kernel::Error;
use kernel::nft::expr::{
    Action, Comparison, CtKey, DynsetOp, Expr, FibFlags, InstalledExpr, Load, Match, MetaKey, NatKind,
    PayloadBase, Register, RejectWith, SetAccess, TupleDirection, TupleKey,
};
use kernel::nft::{
    Batch, Bytes, Chain, ChainType, CountedRule, Data, DataType, Disturbance, Element, Family, Hook,
    HookPoint, MapTo, Monitor, Nftables, Rule, Set, Table, Verdict,
};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("every_kind_of_set_is_read_back_as_written", every_kind_of_set),
        Test::new("ranges_are_listed_as_ranges", ranges),
        Test::new("every_expression_is_taken_and_listed", every_expression),
        Test::new("every_expression_is_read_back_as_written", reading_back),
        Test::new("an_element_is_found_by_its_key", single_elements),
        Test::new("rules_that_count_tell_what_they_have_counted", counters),
        Test::new("rules_are_known_again_by_their_fingerprints", fingerprints),
        Test::new("a_refused_operation_undoes_the_whole_and_is_named", refusal),
        Test::new("a_rehearsal_tells_what_would_be_refused_and_changes_nothing", rehearsal),
        Test::new("elements_beyond_one_message_all_arrive", many_elements),
        Test::new("an_oversized_transaction_is_refused_before_it_is_sent", oversized),
        Test::new("chains_in_use_are_busy", busy),
        Test::new("an_empty_transaction_is_no_transaction", empty),
        Test::new("changes_by_others_are_heard_of_and_our_own_are_not", monitor),
        Test::new("news_that_the_kernel_had_to_drop_are_told_of", lost_news),
    ])
}

fn table() -> Table {
    Table { family: Family::Ip, name: "t".to_owned() }
}

fn batch() -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table("a test");
    batch
}

fn set(name: &str, key: &[DataType], data: MapTo) -> Set {
    let comment = format!("what {name} is for");
    Set {
        name: name.to_owned(),
        key: key.to_vec(),
        data,
        interval: false,
        dynamic: false,
        size: None,
        comment,
    }
}

fn chain(name: &str) -> Chain {
    Chain { name: name.to_owned(), hook: None }
}

fn listed() -> Result<String> {
    let output =
        Command::new("nft").args(["list", "ruleset"]).output().context("apt-get install nftables")?;
    ensure!(output.status.success(), "nft list: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn expect_listed(texts: &[&str]) -> Result<()> {
    let listing = listed()?;
    for text in texts {
        ensure!(listing.contains(text), "{text:?} is not in\n{listing}");
    }
    Ok(())
}

const FRONTEND: [u8; 12] = [10, 96, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0];

fn element(key: &[u8], data: Data) -> Element {
    Element { key: Bytes::from_slice(key), data, comment: Some("why".to_owned()), ..Element::default() }
}

/// A number in host order, as a map to marks holds it.
fn number(number: u32) -> Data {
    Data::Value(bytes(&number.to_ne_bytes()))
}

fn every_kind_of_set() -> Result<()> {
    use DataType::{InetProto, InetService, Ipv4Addr, Ipv6Addr, Mark};
    let frontend = [Ipv4Addr, InetProto, InetService];
    let endpoint = MapTo::Value(vec![Ipv4Addr, InetService]);
    let sized = Set { size: Some(1000), ..set("sized", &[Ipv6Addr], MapTo::Nothing) };
    let dynamic = Set { dynamic: true, size: Some(64), ..set("dynamic", &frontend, endpoint.clone()) };
    let definitions = [
        (set("plain", &[Ipv4Addr], MapTo::Nothing), element(&[10, 0, 0, 1], Data::None)),
        (sized, element(&[0xfd; 16], Data::None)),
        (
            set("verdicts", &frontend, MapTo::Verdict),
            element(&FRONTEND, Data::Verdict(Verdict::Goto("c".into()))),
        ),
        (set("drops", &[InetService], MapTo::Verdict), element(&[0, 80], Data::Verdict(Verdict::Drop))),
        (
            set("continues", &[InetService], MapTo::Verdict),
            element(&[0, 81], Data::Verdict(Verdict::Continue)),
        ),
        (set("numbers", &[Ipv4Addr], MapTo::Value(vec![Mark])), element(&[10, 0, 0, 1], number(3))),
        (
            set("values", &[Ipv4Addr, InetProto, InetService, Mark], endpoint),
            element(
                &[&FRONTEND[..], &[1, 0, 0, 0]].concat(),
                Data::Value([10, 0, 0, 9, 31, 144, 0, 0][..].into()),
            ),
        ),
    ];
    let mut batch = batch();
    batch.add_chain(&chain("c"));
    batch.add_set(&dynamic);
    for (definition, element) in &definitions {
        batch.add_set(definition);
        batch.add_elements(&definition.name, [element]);
    }
    let mut nft = Nftables::open()?;
    nft.commit(batch)?;
    let installed = nft.sets(&table())?;
    for (definition, element) in &definitions {
        ensure!(installed.iter().any(|set| set.is(definition)), "{definition:?} is not in {installed:?}");
        let found = nft.elements(&table(), &definition.name)?;
        ensure!(found == [element.clone()], "{element:?} became {found:?}");
    }
    ensure!(installed.iter().any(|set| set.is(&dynamic)), "{dynamic:?} is not in {installed:?}");
    let other = Set { size: Some(65), ..dynamic };
    ensure!(!installed.iter().any(|set| set.is(&other)), "a set of another size passes for {other:?}");
    expect_listed(&[
        "10.96.0.1 . tcp . 80 comment \"why\" : goto c",
        "10.96.0.1 . tcp . 80 . 0x00000001 comment \"why\" : 10.0.0.9 . 8080",
        "80 comment \"why\" : drop",
        "81 comment \"why\" : continue",
        "10.0.0.1 comment \"why\" : 0x00000003",
        "comment \"what values is for\"",
        "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
    ])
}

fn ranges() -> Result<()> {
    use DataType::{InetService, Ipv4Addr};
    let single = Set { interval: true, ..set("single", &[Ipv4Addr], MapTo::Nothing) };
    let several = Set { interval: true, ..set("several", &[InetService, Ipv4Addr], MapTo::Nothing) };
    let mut batch = batch();
    batch.add_set(&single);
    batch.add_set(&several);
    let start = Element { key: [10, 0, 0, 0][..].into(), ..Element::default() };
    let end = Element { key: [11, 0, 0, 0][..].into(), interval_end: true, ..Element::default() };
    batch.add_elements("single", [&start, &end]);
    let range = Element {
        key: [0, 80, 0, 0, 192, 0, 2, 0][..].into(),
        key_end: Some([0, 80, 0, 0, 192, 0, 2, 255][..].into()),
        ..Element::default()
    };
    batch.add_elements("several", [&range]);
    let mut nft = Nftables::open()?;
    nft.commit(batch)?;
    let mut found = nft.elements(&table(), "single")?;
    found.sort_by_key(|element| element.interval_end);
    ensure!(found == [start, end], "{found:?}");
    let found = nft.elements(&table(), "several")?;
    ensure!(found == [range], "{found:?}");
    expect_listed(&["10.0.0.0/8", "80 . 192.0.2.0/24"])
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::from_slice(bytes)
}

/// A rule for each expression there is, and what `nft` says to it.
fn rules() -> Vec<(Vec<Expr>, &'static str)> {
    const R: Register = Register::new(0);
    let payload =
        |offset, len| Expr::Load(Load::Payload { base: PayloadBase::Network, offset, len, into: R });
    let cmp =
        |comparison, with: &[u8]| Expr::Match(Match::Cmp { register: R, comparison, with: bytes(with) });
    let mark = || Expr::Load(Load::Meta { key: MetaKey::Mark, into: R });
    let l4proto = || Expr::Load(Load::Meta { key: MetaKey::L4Proto, into: R });
    let bits = |mask: u32, xor: u32| {
        Expr::Match(Match::Bitwise {
            register: R,
            mask: bytes(&mask.to_ne_bytes()),
            xor: bytes(&xor.to_ne_bytes()),
        })
    };
    let tuple = |key, direction| Expr::Load(Load::CtTuple { key, direction, into: R });
    let verdict = |verdict| Expr::Action(Action::Verdict(verdict));
    let contains = |inverted| Expr::Set(SetAccess::Contains { set: "hosts".to_owned(), key: R, inverted });
    let dynset = |op, timeout_ms| {
        let set = "seen".to_owned();
        Expr::Set(SetAccess::Dynset { set, op, key: R, data: None, timeout_ms })
    };
    let port = Expr::Load(Load::Payload { base: PayloadBase::Transport, offset: 2, len: 2, into: R });
    let immediate = |value: &[u8], into| Expr::Load(Load::Immediate { value: bytes(value), into });
    let nat = |kind, port| Expr::Action(Action::Nat { kind, family: Family::Ip, address: R, port });
    let fib = Expr::Load(Load::FibType { of: FibFlags::Daddr, into: R });
    let lookup = Expr::Set(SetAccess::Lookup { map: "by-slot".to_owned(), key: R, into: R });
    let random = Expr::Load(Load::Random { modulus: 3, into: R });
    let load_mark = |into| Expr::Load(Load::Meta { key: MetaKey::Mark, into });
    let set_mark = |from| Expr::Action(Action::SetMark { from });
    let (found, saved, carried) = (R.after(4), R.after(8), R.after(12));
    vec![
        // By what one map says into the next. Without the mark in between `nft` aborts.
        (
            vec![
                payload(16, 4),
                Expr::Set(SetAccess::Lookup { map: "numbers".to_owned(), key: R, into: found }),
                load_mark(saved),
                set_mark(found),
                load_mark(carried),
                set_mark(saved),
                Expr::Set(SetAccess::VerdictLookup { map: "numbered".to_owned(), key: carried }),
            ],
            "meta mark set ip daddr map @numbers meta mark set meta mark meta mark vmap @numbered",
        ),
        (
            vec![
                payload(16, 4),
                Expr::Set(SetAccess::VerdictLookup { map: "fates".to_owned(), key: R }),
                verdict(Verdict::Goto("other".to_owned())),
            ],
            "ip daddr vmap @fates goto other",
        ),
        (
            vec![payload(12, 4), cmp(Comparison::Ne, &[10, 0, 0, 1]), Expr::Action(Action::Counter)],
            "ip saddr != 10.0.0.1 counter packets 0 bytes 0",
        ),
        (vec![payload(16, 4), contains(false), verdict(Verdict::Accept)], "ip daddr @hosts accept"),
        (vec![payload(16, 4), contains(true), verdict(Verdict::Drop)], "ip daddr != @hosts drop"),
        (
            vec![payload(16, 4), Expr::Set(SetAccess::VerdictLookup { map: "fates".to_owned(), key: R })],
            "ip daddr vmap @fates",
        ),
        (vec![payload(12, 4), dynset(DynsetOp::Update, Some(5_000))], "update @seen { ip saddr timeout 5s }"),
        (vec![payload(12, 4), dynset(DynsetOp::Delete, None)], "delete @seen { ip saddr }"),
        (vec![port, cmp(Comparison::Eq, &[0, 53]), verdict(Verdict::Return)], "th dport 53 return"),
        (
            vec![mark(), bits(!4, 4), Expr::Action(Action::SetMark { from: R })],
            "meta mark set meta mark | 0x00000004",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::Mark, into: R }),
                bits(!8, 8),
                Expr::Action(Action::SetConnectionMark { from: R }),
            ],
            "ct mark set ct mark | 0x00000008",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::State, into: R }),
                bits(CtKey::STATE_NEW, 0),
                cmp(Comparison::Ne, &[0; 4]),
                verdict(Verdict::Jump("other".to_owned())),
            ],
            "ct state new jump other",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::Status, into: R }),
                bits(CtKey::STATUS_DNAT, 0),
                cmp(Comparison::Ne, &[0; 4]),
                Expr::Action(Action::Masquerade),
            ],
            "ct status dnat masquerade fully-random",
        ),
        (
            vec![
                fib,
                cmp(Comparison::Eq, &Load::LOCAL.to_ne_bytes()),
                verdict(Verdict::Goto("other".to_owned())),
            ],
            "fib daddr type local goto other",
        ),
        (
            vec![
                Expr::Load(Load::Meta { key: MetaKey::IifName, into: R }),
                cmp(Comparison::Eq, b"eth"),
                verdict(Verdict::Accept),
            ],
            "iifname \"eth*\" accept",
        ),
        (vec![l4proto(), cmp(Comparison::Eq, &[17]), verdict(Verdict::Accept)], "meta l4proto udp accept"),
        (
            vec![
                payload(16, 4),
                cmp(Comparison::Gte, &[10, 0, 0, 1]),
                cmp(Comparison::Lte, &[10, 0, 0, 9]),
                verdict(Verdict::Accept),
            ],
            "ip daddr 10.0.0.1-10.0.0.9 accept",
        ),
        (vec![payload(16, 4), cmp(Comparison::Lt, &[10, 0, 0, 0])], "ip daddr < 10.0.0.0"),
        (vec![payload(16, 4), cmp(Comparison::Gt, &[10, 0, 0, 0])], "ip daddr > 10.0.0.0"),
        (
            vec![
                tuple(TupleKey::SourceAddress, TupleDirection::Original),
                cmp(Comparison::Eq, &[10, 0, 0, 1]),
                verdict(Verdict::Drop),
            ],
            "ct original ip saddr 10.0.0.1 drop",
        ),
        (
            vec![
                tuple(TupleKey::DestinationAddress, TupleDirection::Reply),
                cmp(Comparison::Ne, &[10, 0, 0, 2]),
                verdict(Verdict::Drop),
            ],
            "ct reply ip daddr != 10.0.0.2 drop",
        ),
        (
            vec![
                tuple(TupleKey::SourceAddress6, TupleDirection::Reply),
                cmp(Comparison::Eq, &[0xfd; 16]),
                verdict(Verdict::Drop),
            ],
            "ct reply ip6 saddr fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd drop",
        ),
        (
            vec![
                tuple(TupleKey::DestinationAddress6, TupleDirection::Original),
                cmp(Comparison::Eq, &[0xfd; 16]),
                verdict(Verdict::Drop),
            ],
            "ct original ip6 daddr fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd drop",
        ),
        (
            vec![
                l4proto(),
                cmp(Comparison::Eq, &[6]),
                tuple(TupleKey::DestinationPort, TupleDirection::Original),
                cmp(Comparison::Eq, &[0, 80]),
                verdict(Verdict::Drop),
            ],
            "meta l4proto tcp ct original proto-dst 80 drop",
        ),
        (
            vec![
                l4proto(),
                cmp(Comparison::Eq, &[17]),
                tuple(TupleKey::SourcePort, TupleDirection::Reply),
                cmp(Comparison::Eq, &[0, 81]),
                verdict(Verdict::Drop),
            ],
            "meta l4proto udp ct reply proto-src 81 drop",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::Protocol, into: R }),
                cmp(Comparison::Eq, &[6]),
                verdict(Verdict::Drop),
            ],
            "ct protocol tcp drop",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::State, into: R }),
                bits(CtKey::STATE_ESTABLISHED | CtKey::STATE_RELATED, 0),
                cmp(Comparison::Ne, &[0; 4]),
                verdict(Verdict::Accept),
            ],
            "ct state established,related accept",
        ),
        (
            vec![
                Expr::Load(Load::Ct { key: CtKey::State, into: R }),
                bits(CtKey::STATE_INVALID | CtKey::STATE_UNTRACKED, 0),
                cmp(Comparison::Ne, &[0; 4]),
                verdict(Verdict::Drop),
            ],
            "ct state invalid,untracked drop",
        ),
        (
            vec![
                Expr::Match(Match::Limit { per_second: 3, burst: 7 }),
                Expr::Action(Action::Log { group: 5, prefix: "why ".to_owned(), snaplen: 64 }),
            ],
            "limit rate 3/second burst 7 packets log prefix \"why \" group 5 snaplen 64",
        ),
        (
            vec![Expr::Action(Action::Log { group: 0, prefix: longest_prefix(), snaplen: 0 })],
            "x\" group 0 snaplen 0",
        ),
        (
            vec![l4proto(), cmp(Comparison::Eq, &[6]), Expr::Action(Action::Reject(RejectWith::TcpReset))],
            "reject with tcp reset",
        ),
        (
            vec![
                immediate(&[10, 0, 0, 7], R),
                immediate(&[31, 144], R.after(4)),
                nat(NatKind::Dnat, Some(R.after(4))),
            ],
            "dnat to 10.0.0.7:8080",
        ),
        (
            vec![random, lookup, nat(NatKind::Dnat, Some(R.after(4)))],
            "dnat ip to numgen random mod 3 map @by-slot",
        ),
    ]
}

fn every_expression() -> Result<()> {
    let rules = program_every_expression()?;
    expect_listed(&rules.iter().map(|(_, listed)| *listed).collect::<Vec<_>>())?;
    expect_listed(&["reject comment \"no way\"", "snat to 192.0.2.1", "hook prerouting priority dstnat"])?;
    let chains = Nftables::open()?.chains(&table())?;
    let forward = hook("filter-forward", ChainType::Filter, HookPoint::Forward, 0);
    ensure!(chains.contains(&forward) && chains.contains(&chain("other")), "{chains:?}");
    Ok(())
}

fn hook(name: &str, kind: ChainType, point: HookPoint, priority: i32) -> Chain {
    Chain { name: name.to_owned(), hook: Some(Hook { kind, point, priority }) }
}

fn reading_back() -> Result<()> {
    let rules = program_every_expression()?;
    let mut nft = Nftables::open()?;
    let mut found = nft.listed_rules(&table(), "nat-prerouting")?;
    found.extend(nft.listed_rules(&table(), "nat-postrouting")?);
    found.extend(nft.listed_rules(&table(), "filter-input")?);
    for (expressions, words) in &rules {
        let known: Vec<_> = expressions.iter().cloned().map(InstalledExpr::Known).collect();
        ensure!(found.iter().any(|rule| rule.expressions == known), "{words} is not in {found:?}");
    }
    // The one that translates sources stands there besides.
    ensure!(found.len() == rules.len() + 1, "{} rules became {}", rules.len(), found.len());
    let run = |command: &str| Command::new("nft").arg(command).status();
    ensure!(run("add rule ip t filter-forward quota 1 mbytes accept")?.success(), "nft failed");
    ensure!(run("chain ip t filter-forward { policy drop; }")?.success(), "nft failed");
    let forward = nft.listed_rules(&table(), "filter-forward")?;
    ensure!(forward[0].comment.as_deref() == Some("no way"), "{forward:?}");
    ensure!(
        forward[1].expressions
            == [
                InstalledExpr::Unknown { name: "quota".to_owned() },
                InstalledExpr::Known(Expr::Action(Action::Verdict(Verdict::Accept))),
            ],
        "{forward:?}"
    );
    ensure!(nft.listed_rules(&table(), "missing")?.is_empty(), "a missing chain has rules");
    let chains = nft.listed_chains(&table())?;
    let drops = |name| chains.iter().find(|listed| listed.chain.name == name).map(|listed| listed.drops);
    ensure!(drops("filter-forward") == Some(true) && drops("nat-prerouting") == Some(false), "{chains:?}");
    Ok(())
}

fn counters() -> Result<()> {
    let mut batch = batch();
    batch.add_chain(&chain("c"));
    let plain = Rule { expressions: vec![Expr::Action(Action::Verdict(Verdict::Accept))], comment: None };
    batch.add_rule("c", &plain);
    Nftables::open()?.commit(batch)?;
    let run = |command: &str| Command::new("nft").arg(command).status();
    ensure!(run("add rule ip t c counter packets 3 bytes 4000000000000 drop comment \"why\"")?.success());
    ensure!(run("add table ip other; add chain ip other c; add rule ip other c counter")?.success());
    let found = Nftables::open()?.counted_rules(&table())?;
    let expected = CountedRule {
        chain: "c".to_owned(),
        comment: Some("why".to_owned()),
        packets: 3,
        bytes: 4_000_000_000_000,
    };
    ensure!(found == [expected], "{found:?}");
    Ok(())
}

fn single_elements() -> Result<()> {
    program_every_expression()?;
    let mut nft = Nftables::open()?;
    let leads = element(&[10, 0, 0, 1], Data::Verdict(Verdict::Goto("other".to_owned())));
    let mut filled = Batch::new(table());
    filled.add_elements("fates", [&leads]);
    filled.add_elements("seen", [&element(&[10, 0, 0, 1], Data::None)]);
    nft.commit(filled)?;
    ensure!(nft.element(&table(), "fates", &leads.key)? == Some(leads), "an element is not found by its key");
    ensure!(nft.element(&table(), "seen", &[10, 0, 0, 1])?.is_some(), "nor is one that may time out");
    ensure!(nft.element(&table(), "fates", &[10, 0, 0, 2])?.is_none(), "an element is found by another key");
    Ok(())
}

/// Puts every rule in force.
fn program_every_expression() -> Result<Vec<(Vec<Expr>, &'static str)>> {
    use DataType::{InetService, Ipv4Addr, Mark};
    let mut batch = batch();
    batch.add_set(&set("hosts", &[Ipv4Addr], MapTo::Nothing));
    batch.add_set(&set("fates", &[Ipv4Addr], MapTo::Verdict));
    batch.add_set(&set("numbers", &[Ipv4Addr], MapTo::Value(vec![Mark])));
    batch.add_set(&set("numbered", &[Mark], MapTo::Verdict));
    batch.add_set(&set("by-slot", &[Mark], MapTo::Value(vec![Ipv4Addr, InetService])));
    batch.add_set(&Set { dynamic: true, ..set("seen", &[Ipv4Addr], MapTo::Nothing) });
    batch.add_chain(&chain("other"));
    batch.add_chain(&hook("nat-prerouting", ChainType::Nat, HookPoint::Prerouting, -100));
    batch.add_chain(&hook("nat-postrouting", ChainType::Nat, HookPoint::Postrouting, 100));
    batch.add_chain(&hook("filter-forward", ChainType::Filter, HookPoint::Forward, 0));
    batch.add_chain(&hook("filter-input", ChainType::Filter, HookPoint::Input, 0));
    let rules = rules();
    for (expressions, _) in &rules {
        batch.add_rule(chain_for(expressions), &Rule { expressions: expressions.clone(), comment: None });
    }
    let reject = Expr::Action(Action::Reject(RejectWith::PortUnreachable));
    let snat = [
        Expr::Load(Load::Immediate { value: bytes(&[192, 0, 2, 1]), into: Register::new(0) }),
        Expr::Action(Action::Nat {
            kind: NatKind::Snat,
            family: Family::Ip,
            address: Register::new(0),
            port: None,
        }),
    ];
    batch.add_rule("filter-forward", &Rule { expressions: vec![reject], comment: Some("no way".to_owned()) });
    batch.add_rule("nat-postrouting", &Rule { expressions: snat.to_vec(), comment: None });
    Nftables::open()?.commit(batch)?;
    Ok(rules)
}

/// Where a rule is taken: what masquerades, after routing; what resets, where packets are filtered.
fn chain_for(expressions: &[Expr]) -> &'static str {
    let has = |action| expressions.contains(&Expr::Action(action));
    if has(Action::Masquerade) {
        "nat-postrouting"
    } else if has(Action::Reject(RejectWith::TcpReset)) {
        "filter-input"
    } else {
        "nat-prerouting"
    }
}

fn longest_prefix() -> String {
    "x".repeat(Action::LONGEST_PREFIX)
}

fn fingerprints() -> Result<()> {
    let rule = |verdict, comment: &str| Rule {
        expressions: vec![Expr::Action(Action::Verdict(verdict))],
        comment: Some(comment.to_owned()),
    };
    let ours = [rule(Verdict::Accept, "one"), rule(Verdict::Accept, "two"), rule(Verdict::Drop, "two")];
    let mut batch = batch();
    batch.add_chain(&chain("c"));
    ours.iter().for_each(|rule| batch.add_rule("c", rule));
    let mut nft = Nftables::open()?;
    nft.commit(batch)?;
    Command::new("nft").args(["add", "rule", "ip", "t", "c", "accept"]).status()?;
    let found: Vec<_> = nft.rules(&table())?.into_iter().map(|rule| rule.fingerprint).collect();
    let expected: Vec<_> = ours.iter().map(|rule| Some(rule.fingerprint())).chain([None]).collect();
    ensure!(found == expected, "{found:?}, not {expected:?}");
    let distinct: std::collections::HashSet<_> = ours.iter().map(Rule::fingerprint).collect();
    ensure!(distinct.len() == ours.len(), "different rules look alike: {distinct:?}");
    Ok(())
}

fn refusal() -> Result<()> {
    let mut nft = Nftables::open()?;
    let mut bad = batch();
    bad.add_set(&set("plain", &[DataType::Ipv4Addr], MapTo::Nothing));
    bad.delete_chain("missing");
    bad.add_chain(&chain("after"));
    let Err(error) = nft.commit(bad) else { bail!("the kernel removed a chain that is not there") };
    let message = error.to_string();
    ensure!(message.contains("delete chain ip t missing") && message.contains("ENOENT"), "{message}");
    ensure!(nft.tables()?.is_empty(), "part of a refused transaction is in force");
    // The connection is as good as new.
    nft.commit(batch())?;
    ensure!(nft.tables()? == [table()], "a good transaction after a refused one is not in force");
    Ok(())
}

fn rehearsal() -> Result<()> {
    let mut nft = Nftables::open()?;
    let fine = || {
        let mut batch = batch();
        batch.add_set(&set("hosts", &[DataType::Ipv4Addr], MapTo::Nothing));
        batch.add_elements("hosts", [&element(&[10, 0, 0, 1], Data::None)]);
        batch
    };
    nft.rehearse(fine())?;
    ensure!(nft.tables()?.is_empty(), "a rehearsal left something behind");
    let mut bad = fine();
    bad.delete_elements("hosts", [&element(&[10, 0, 0, 2], Data::None)]);
    match nft.rehearse(bad) {
        Err(error @ Error::Refused { .. }) => {
            let said = error.to_string();
            ensure!(said.contains("hosts") && error.blames_the_request(), "{said}");
        }
        other => bail!("{other:?}"),
    }
    let (before, commits) = (nft.generation()?, nft.commits());
    nft.commit(fine())?;
    nft.rehearse(batch())?;
    ensure!(nft.generation()? == before + 1, "a commit is one generation, and a rehearsal none");
    ensure!(nft.commits() == commits + 1, "a commit counts, and a rehearsal does not");
    ensure!(nft.elements(&table(), "hosts")?.len() == 1, "a rehearsal changed something");
    Ok(())
}

fn lost_news() -> Result<()> {
    /// More than any buffer takes, at some fifty bytes for each.
    const ENOUGH: usize = 64 << 20;
    let mut monitor = Monitor::open(vec![table()], 0)?;
    let mut other = Nftables::open()?;
    let mut made = batch();
    made.add_set(&set("hosts", &[DataType::Ipv4Addr], MapTo::Nothing));
    other.commit(made)?;
    ensure!(
        matches!(monitor.next_disturbance()?, Disturbance::By { .. }),
        "the first change was not heard of"
    );
    let elements: Vec<Element> =
        (0..10_000_u32).map(|n| element(&(0x0a00_0000 + n).to_be_bytes(), Data::None)).collect();
    for _ in 0..ENOUGH / 50 / elements.len() / 2 {
        let (mut added, mut removed) = (Batch::new(table()), Batch::new(table()));
        added.add_elements("hosts", &elements);
        removed.delete_elements("hosts", &elements);
        other.commit(added)?;
        other.commit(removed)?;
    }
    // What had arrived before comes first.
    let mut heard = Vec::new();
    for _ in 0..ENOUGH / 50 {
        heard.push(monitor.next_disturbance()?);
        if heard.last() == Some(&Disturbance::Unknown) {
            return Ok(());
        }
    }
    bail!("{} changes were heard of, and none was lost", heard.len())
}

fn many_elements() -> Result<()> {
    const COUNT: u32 = 20_000;
    let elements: Vec<Element> =
        (0..COUNT).map(|n| element(&(0x0a00_0000 + n).to_be_bytes(), Data::None)).collect();
    let mut batch = batch();
    batch.add_set(&set("hosts", &[DataType::Ipv4Addr], MapTo::Nothing));
    batch.add_elements("hosts", &elements);
    ensure!(batch.operations() == elements.len() + 2, "{} operations", batch.operations());
    let mut nft = Nftables::open()?;
    nft.commit(batch)?;
    let mut found = nft.elements(&table(), "hosts")?;
    found.sort_by(|a, b| a.key.cmp(&b.key));
    ensure!(found == elements, "{} of {COUNT} elements came back", found.len());
    let mut removal = Batch::new(table());
    removal.delete_elements("hosts", &elements[1..]);
    nft.commit(removal)?;
    ensure!(nft.elements(&table(), "hosts")? == elements[..1], "removal left too much or too little");
    let mut anew = Batch::new(table());
    anew.flush_set("hosts");
    anew.add_elements("hosts", &elements[..2]);
    nft.commit(anew)?;
    ensure!(
        nft.elements(&table(), "hosts")?.len() == 2,
        "flushing and filling again left too much or too little"
    );
    Ok(())
}

fn oversized() -> Result<()> {
    let mut nft = Nftables::open()?;
    let mut batch = batch();
    batch.add_set(&set("hosts", &[DataType::Ipv4Addr], MapTo::Nothing));
    let one = element(&[10, 0, 0, 1], Data::None);
    // An element takes more than 16 bytes.
    batch.add_elements("hosts", std::iter::repeat_n(&one, nft.batch_limit() / 16));
    match nft.commit(batch) {
        Err(Error::TooLarge { bytes, limit }) if bytes > limit => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn busy() -> Result<()> {
    let mut nft = Nftables::open()?;
    let mut used = batch();
    used.add_chain(&chain("used"));
    used.add_set(&set("fates", &[DataType::Ipv4Addr], MapTo::Verdict));
    let leads = element(&[10, 0, 0, 1], Data::Verdict(Verdict::Goto("used".to_owned())));
    used.add_elements("fates", [&leads]);
    nft.commit(used)?;
    let mut removal = Batch::new(table());
    removal.delete_chain("used");
    match nft.commit(removal) {
        Err(error) if error.is_busy() => {}
        other => bail!("{other:?}"),
    }
    let mut together = Batch::new(table());
    together.delete_elements("fates", [&leads]);
    nft.commit(together)?;
    let mut removal = Batch::new(table());
    removal.delete_chain("used");
    Ok(nft.commit(removal)?)
}

fn empty() -> Result<()> {
    let mut nft = Nftables::open()?;
    nft.commit(Batch::new(table()))?;
    ensure!(nft.tables()?.is_empty(), "an empty transaction made a table");
    Ok(())
}

fn monitor() -> Result<()> {
    let mut nft = Nftables::open()?;
    let mut monitor = Monitor::open(vec![table()], nft.port())?;
    nft.commit(batch())?;
    let run = |command: &str| Command::new("nft").arg(command).status();
    ensure!(run("add table ip other")?.success() && run("add chain ip other c")?.success(), "nft failed");
    ensure!(run("add chain ip t c")?.success(), "nft failed");
    // What was heard first is the first change of this table that was not our own.
    match monitor.next_disturbance()? {
        Disturbance::By { table: changed, pid: Some(_), program: Some(program) } => {
            ensure!((changed, program.as_str()) == (table(), "nft"), "{program} is blamed");
        }
        other => bail!("{other:?}"),
    }
    let mut second = Nftables::open()?;
    let mut removal = Batch::new(table());
    removal.delete_table();
    second.commit(removal)?;
    let heard = monitor.next_disturbance()?;
    ensure!(matches!(heard, Disturbance::By { .. }), "{heard:?}");
    Ok(())
}
