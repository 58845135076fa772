//! Tables that are mended: whatever a table held before, afterwards it holds what it should, and what was right stayed.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use kernel::nft::expr::{Action, Expr, Load, PayloadBase, Register, SetAccess};
use kernel::nft::{
    Chain, ChainType, Content, Data, DataType, Element, Family, Hook, HookPoint, MapTo, Nftables, Rule, Set,
    Table, Verdict,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("a_table_is_made_where_there_is_none", made),
        Test::new("what_somebody_changed_is_mended_and_named", mended),
        Test::new("rules_that_are_right_are_not_written_again", kept),
        Test::new("what_has_another_shape_is_replaced_whole", replaced),
        Test::new("any_content_becomes_any_other", any_to_any),
    ])
}

fn table() -> Table {
    Table { family: Family::Ip, name: "t".to_owned() }
}

fn set(name: &str, data: MapTo, interval: bool) -> Set {
    Set {
        name: name.to_owned(),
        key: vec![DataType::Ipv4Addr],
        data,
        interval,
        dynamic: false,
        size: None,
        comment: "a test".to_owned(),
    }
}

fn chain(name: &str) -> Chain {
    let hook = Hook { kind: ChainType::Filter, point: HookPoint::Forward, priority: 0 };
    Chain { name: name.to_owned(), hook: (name == "forward").then_some(hook) }
}

fn verdict(verdict: Verdict) -> Rule {
    Rule { expressions: vec![Expr::Action(Action::Verdict(verdict))], comment: None }
}

/// Looks the destination up in a set; where that is a map, its verdict is carried out.
fn lookup(set: &str, is_map: bool) -> Rule {
    let key = Register::new(0);
    let address = Expr::Load(Load::Payload { base: PayloadBase::Network, offset: 16, len: 4, into: key });
    let set = set.to_owned();
    let access = match is_map {
        true => SetAccess::VerdictLookup { map: set, key },
        false => SetAccess::Contains { set, key, inverted: false },
    };
    Rule { expressions: vec![address, Expr::Set(access)], comment: None }
}

/// What a test wants a table to hold: which of some addresses, ranges and chains.
#[derive(Clone, Debug)]
struct Wanted {
    addresses: Vec<u8>,
    ranges: Vec<u8>,
    /// Chains, which of them an address leads to, and how many rules it has.
    chains: Vec<(u8, u8)>,
    /// A set that is there or not.
    spare: bool,
}

impl Wanted {
    fn content(&self) -> Content {
        let address = |number: u8| Element::of_address([10, 0, 0, number].into());
        let range = |number: &u8| IpNet::new_assert([10, *number, 0, 0].into(), 16);
        let name = |number: usize| format!("chain-{number}");
        let lead = |(number, (at, _)): (usize, &(u8, u8))| {
            let data = Data::Verdict(Verdict::Goto(name(number)));
            Element { data, ..address(*at) }
        };
        let mut leads: Vec<Element> = self.chains.iter().enumerate().map(lead).collect();
        leads.sort_by(|a, b| a.key.cmp(&b.key));
        leads.dedup_by(|a, b| a.key == b.key);
        let ranges: Vec<IpNet> = self.ranges.iter().map(range).collect();
        let mut sets = vec![
            (set("addresses", MapTo::Nothing, false), self.addresses.iter().copied().map(address).collect()),
            (set("ranges", MapTo::Nothing, true), Element::of_ranges(&ranges)),
            (set("leads", MapTo::Verdict, false), leads),
        ];
        let mut forward = vec![lookup("addresses", false), lookup("ranges", false), lookup("leads", true)];
        if self.spare {
            sets.push((set("spare", MapTo::Verdict, false), Vec::new()));
            forward.push(lookup("spare", true));
        }
        let mut chains = vec![(chain("forward"), forward)];
        for (number, (_, rules)) in self.chains.iter().enumerate() {
            let next = (number + 1 < self.chains.len()).then(|| verdict(Verdict::Jump(name(number + 1))));
            let rules = (0..*rules).map(|_| verdict(Verdict::Accept)).chain(next).collect();
            chains.push((chain(&name(number)), rules));
        }
        Content { comment: "a test", sets, chains }
    }
}

fn wanted() -> Wanted {
    Wanted { addresses: vec![1, 2], ranges: vec![1, 3], chains: vec![(1, 1), (2, 2)], spare: false }
}

/// Brings a table to a content; returns what was told to be different and how many operations it took.
fn mend(nft: &mut Nftables, content: &Content) -> Result<(Option<String>, usize)> {
    let installed = nft.installed(&table())?;
    let mending = content.mending(&table(), installed.as_ref());
    let operations = mending.batch.operations();
    nft.commit(mending.batch)?;
    Ok((mending.difference, operations))
}

fn expect_right(nft: &mut Nftables, content: &Content) -> Result<()> {
    let (difference, operations) = mend(nft, content)?;
    ensure!(difference.is_none() && operations == 0, "{operations} more: {difference:?}");
    let chains = nft.chains(&table())?;
    ensure!(chains.len() == content.chains.len(), "{chains:?}");
    for (set, elements) in &content.sets {
        let mut found = nft.elements(&table(), &set.name)?;
        let mut wanted = elements.clone();
        for list in [&mut found, &mut wanted] {
            list.sort_by(|a, b| (&a.key, a.interval_end).cmp(&(&b.key, b.interval_end)));
        }
        ensure!(found == wanted, "{}: {found:?} in place of {wanted:?}", set.name);
    }
    Ok(())
}

fn made() -> Result<()> {
    let mut nft = Nftables::open()?;
    let (difference, _) = mend(&mut nft, &wanted().content())?;
    ensure!(difference.as_deref() == Some("table ip t: there is none"), "{difference:?}");
    expect_right(&mut nft, &wanted().content())
}

fn handles(nft: &mut Nftables, of: &str) -> Result<Vec<u64>> {
    let rules = nft.rules(&table())?;
    Ok(rules.iter().filter(|rule| rule.chain == of).map(|rule| rule.handle).collect())
}

/// Somebody changes the table.
fn change(script: &str) -> Result<()> {
    let status = Command::new("nft").arg(script).status().context("apt-get install nftables")?;
    ensure!(status.success(), "nft {script}");
    Ok(())
}

fn mended() -> Result<()> {
    let mut nft = Nftables::open()?;
    let content = wanted().content();
    mend(&mut nft, &content)?;
    for (damage, named) in [
        ("delete element ip t addresses { 10.0.0.1 }", "set addresses lacks 1 elements and has 0 others"),
        ("add element ip t addresses { 10.0.0.9 }", "set addresses lacks 0 elements and has 1 others"),
        ("flush set ip t addresses", "set addresses lacks 2 elements and has 0 others"),
        ("add element ip t ranges { 10.9.0.0/16 }", "set ranges lacks 0 elements and has 2 others"),
        ("delete element ip t ranges { 10.3.0.0/16 }", "set ranges lacks 2 elements and has 0 others"),
        (
            "delete element ip t leads { 10.0.0.1 }; add element ip t leads { 10.0.0.1 : goto chain-1 }",
            "set leads lacks 1 elements and has 1 others",
        ),
        ("flush chain ip t forward", "chain forward is not as it should be"),
        ("insert rule ip t forward accept", "chain forward is not as it should be"),
        ("flush chain ip t chain-1", "chain chain-1 is not as it should be"),
        ("flush table ip t", "chain forward is not as it should be"),
        ("flush table ip t; flush map ip t leads; delete chain ip t chain-1", "chain chain-1 is missing"),
        ("flush table ip t; delete set ip t ranges", "set ranges is missing"),
        (
            "add set ip t theirs { type ipv4_addr; }; add chain ip t theirs; add rule ip t theirs ip daddr @theirs accept",
            "chain theirs is not ours",
        ),
        (
            "add chain ip t theirs; add rule ip t chain-0 jump theirs; add element ip t leads { 10.0.0.7 : goto theirs }",
            "chain chain-0 is not as it should be",
        ),
    ] {
        change(damage)?;
        let (difference, _) = mend(&mut nft, &content)?;
        ensure!(difference == Some(format!("table ip t: {named}")), "{damage}: {difference:?}");
        expect_right(&mut nft, &content).context(damage)?;
    }
    Ok(())
}

fn kept() -> Result<()> {
    let mut nft = Nftables::open()?;
    mend(&mut nft, &wanted().content())?;
    let before = [handles(&mut nft, "forward")?, handles(&mut nft, "chain-0")?];
    let changed = Wanted {
        addresses: vec![2, 3],
        ranges: vec![3, 5],
        chains: vec![(3, 1), (2, 1), (1, 1)],
        ..wanted()
    };
    // Per address, range and lead: what goes and what comes. Chain 1 is emptied and filled, chain 2 is new.
    let (_, operations) = mend(&mut nft, &changed.content())?;
    ensure!(operations == 2 + 4 + 3 + 3 + 2, "{operations} operations");
    ensure!([handles(&mut nft, "forward")?, handles(&mut nft, "chain-0")?] == before, "rules were replaced");
    expect_right(&mut nft, &changed.content())
}

fn replaced() -> Result<()> {
    let mut nft = Nftables::open()?;
    let content = wanted().content();
    for (other, named) in [
        ("add set ip t leads { type ipv4_addr; }", "set leads has another shape"),
        ("add chain ip t forward { type filter hook output priority 0; }", "chain forward has another shape"),
        ("add chain ip t forward", "chain forward has another shape"),
    ] {
        change(&format!("add table ip t; delete table ip t; add table ip t; {other}"))?;
        let (difference, _) = mend(&mut nft, &content)?;
        ensure!(difference == Some(format!("table ip t: {named}")), "{other}: {difference:?}");
        expect_right(&mut nft, &content).context(other)?;
    }
    Ok(())
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let numbers = || prop::collection::btree_set(1..9_u8, 0..6).prop_map(|set| set.into_iter().collect());
    let chains = prop::collection::vec((1..9_u8, 0..3_u8), 0..5);
    (numbers(), numbers(), chains, any::<bool>()).prop_map(|(addresses, ranges, chains, spare)| Wanted {
        addresses,
        ranges,
        chains,
        spare,
    })
}

fn any_to_any() -> Result<()> {
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(any_wanted(), 1..6), |all| {
        let mut nft = Nftables::open().map_err(failed)?;
        for wanted in all {
            mend(&mut nft, &wanted.content()).map_err(failed)?;
            expect_right(&mut nft, &wanted.content()).map_err(failed)?;
        }
        Ok(())
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}

fn failed(error: impl Into<anyhow::Error>) -> TestCaseError {
    TestCaseError::fail(format!("{:#}", error.into()))
}
