//! Sets against the kernel: what is made and filled is what `ipset save` lists, and is read back the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kernel::Error;
use kernel::ipset::{Edit, Entry, Header, Ipsets, Kind, Set};
use testbed::suite::{Test, run};

const KINDS: [Kind; 6] = [
    Kind::HashIp,
    Kind::HashIpPort,
    Kind::HashIpPortIp,
    Kind::HashIpPortNet,
    Kind::HashNet,
    Kind::BitmapPort,
];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

fn main() -> ExitCode {
    let test = |name: &str, run: fn() -> Result<()>| Test::new(name, run);
    run(vec![
        test("every_kind_is_listed_as_filled", || every_kind(&mut Ipsets::open()?)),
        test("every_kind_is_listed_as_filled_in_protocol_6", || every_kind(&mut Ipsets::open_as_of(6)?)),
        test("a_protocol_that_the_kernel_no_longer_speaks_is_reported", protocols),
        test("headers_tell_what_sets_are_and_how_full", headers),
        test("many_entries_come_and_go", many),
        test("a_full_set_is_called_full_and_the_rest_is_done", full),
        test("what_is_there_can_be_added_and_what_is_not_removed", repeated),
        test("refusals_name_the_entry_and_the_set_in_words", refusals),
        test("a_set_that_a_rule_refers_to_is_busy", referenced),
        test("sets_swap_under_a_rule", swap),
        test("a_set_can_be_made_again_and_not_otherwise", made_again),
        test("flushed_sets_are_empty", flush),
        test("refused_edits_by_the_thousand_are_no_lost_answer", refused_in_bulk),
    ])
}

fn set(name: &str, kind: Kind, ipv6: bool) -> Set {
    Set { name: name.to_owned(), kind, ipv6, max_entries: 65536 }
}

fn edits(set: &str, add: bool, entries: impl IntoIterator<Item = Entry>) -> Vec<Edit> {
    let set: Arc<str> = set.into();
    entries.into_iter().map(|entry| Edit { set: set.clone(), add, entry }).collect()
}

/// An address of a family.
fn ip(ipv6: bool, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number).into()
    } else {
        Ipv4Addr::new(10, 1, high, low).into()
    }
}

/// Entries of a kind, and among them its extremes.
fn entries(kind: Kind, ipv6: bool) -> Vec<Entry> {
    let ports = [(1, TCP, 1), (1, UDP, 1), (2, SCTP, 132), (0xffff, TCP, 0xffff), (3, UDP, 0)];
    let ports = ports.map(|(number, protocol, port)| (ip(ipv6, number), protocol, port)).into_iter();
    let nets = if ipv6 {
        &["::", "8000::", "fd00::", "fd00::1"]
    } else {
        &["0.0.0.0", "128.0.0.0", "10.0.0.0", "10.0.0.1"]
    };
    let prefixes = if ipv6 { [1, 1, 8, 128] } else { [1, 1, 8, 32] };
    let nets = nets.iter().zip(prefixes).filter_map(|(net, prefix)| Some((net.parse().ok()?, prefix)));
    match kind {
        Kind::HashIp => [1, 2, 0xffff].map(|number| Entry::Ip(ip(ipv6, number))).to_vec(),
        Kind::HashIpPort => {
            ports.map(|(address, protocol, port)| Entry::IpPort { address, protocol, port }).collect()
        }
        Kind::HashIpPortIp => ports
            .map(|(address, protocol, port)| {
                let other = ip(ipv6, port.wrapping_add(1));
                Entry::IpPortIp { address, protocol, port, other }
            })
            .collect(),
        Kind::HashIpPortNet => ports
            .zip(nets)
            .map(|((address, protocol, port), (net, prefix))| Entry::IpPortNet {
                address,
                protocol,
                port,
                net,
                prefix,
            })
            .collect(),
        Kind::HashNet => nets.map(|(net, prefix)| Entry::Net { net, prefix }).collect(),
        Kind::BitmapPort => [0, 1, 30000, u16::MAX].map(Entry::Port).to_vec(),
    }
}

/// What `ipset save` lists of a set: how it is made, and its entries.
fn saved(set: &str) -> Result<(String, BTreeSet<String>)> {
    let output = Command::new("ipset").args(["save", set]).output().context("apt-get install ipset")?;
    ensure!(output.status.success(), "ipset save: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let made = lines.next().context("ipset save lists nothing")?.to_owned();
    let entry = |line: &str| line.strip_prefix(&format!("add {set} ")).map(str::to_owned);
    let entries: Option<_> = lines.map(entry).collect();
    Ok((made, entries.with_context(|| format!("not all are entries of {set}:\n{text}"))?))
}

fn expect(sets: &mut Ipsets, set: &str, wanted: &[Entry]) -> Result<()> {
    let found: BTreeSet<Entry> = sets.entries(set)?.into_iter().collect();
    ensure!(found == wanted.iter().copied().collect(), "{set} holds {found:?}, not {wanted:?}");
    let shown: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let (_, listed) = saved(set)?;
    ensure!(listed == shown, "ipset lists {listed:?}, not {shown:?}");
    Ok(())
}

fn every_kind(sets: &mut Ipsets) -> Result<()> {
    for kind in KINDS {
        for ipv6 in [false, true] {
            let name = format!("{kind}-{}", if ipv6 { 6 } else { 4 });
            sets.create(&set(&name, kind, ipv6))?;
            let (made, _) = saved(&name)?;
            let family = if ipv6 { "inet6" } else { "inet" };
            let described = match kind {
                Kind::BitmapPort => format!("create {name} bitmap:port range 0-65535"),
                _ => format!("create {name} {kind} family {family} hashsize 1024 maxelem 65536"),
            };
            ensure!(made.starts_with(&described), "{made}, not {described}");
            let mut entries = entries(kind, ipv6);
            sets.run(&edits(&name, true, entries.clone()))?;
            expect(sets, &name, &entries)?;
            let last = entries.pop();
            sets.run(&edits(&name, false, last))?;
            expect(sets, &name, &entries)?;
            sets.destroy(&name)?;
        }
    }
    ensure!(sets.headers()?.is_empty(), "a destroyed set is listed");
    Ok(())
}

fn protocols() -> Result<()> {
    match Ipsets::open_as_of(5) {
        Err(Error::Unsupported { what }) if what.contains("protocol") => Ok(()),
        Err(other) => bail!("{other:?}"),
        Ok(_) => bail!("protocol 5 is spoken"),
    }
}

fn headers() -> Result<()> {
    let mut sets = Ipsets::open()?;
    ensure!(sets.headers()?.is_empty(), "a new namespace has sets");
    sets.create(&Set { max_entries: 77, ..set("small", Kind::HashIpPort, true) })?;
    sets.create(&set("ports", Kind::BitmapPort, false))?;
    sets.run(&edits("small", true, entries(Kind::HashIpPort, true)))?;
    sets.run(&edits("ports", true, entries(Kind::BitmapPort, false)))?;
    ipset(&["create", "foreign", "list:set"])?;
    ipset(&["add", "foreign", "small"])?;
    let header = |name: &str, kind, ipv6, entries, references, max_entries| Header {
        name: name.to_owned(),
        kind,
        ipv6,
        entries,
        references,
        max_entries,
    };
    let wanted = [
        header("small", Some(Kind::HashIpPort), true, 5, 1, Some(77)),
        header("ports", Some(Kind::BitmapPort), false, 4, 0, None),
    ];
    let found = sets.headers()?;
    ensure!(wanted.iter().all(|header| found.contains(header)), "{wanted:?} are not in {found:?}");
    let foreign = found.iter().find(|header| header.name == "foreign");
    ensure!(found.len() == 3 && foreign.is_some_and(|header| header.kind.is_none()), "{found:?}");
    // More sets than one datagram holds.
    for number in 0..200 {
        sets.create(&set(&format!("one-of-many-{number}"), Kind::HashIp, false))?;
    }
    ensure!(sets.headers()?.len() == 203, "some of 203 sets are not listed");
    Ok(())
}

fn ipset(args: &[&str]) -> Result<()> {
    let status = Command::new("ipset").args(args).status().context("apt-get install ipset")?;
    ensure!(status.success(), "ipset {args:?} failed");
    Ok(())
}

fn many() -> Result<()> {
    const COUNT: u32 = 100_000;
    let entry = |number: u32| Entry::IpPortIp {
        address: Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        protocol: TCP,
        port: 8080,
        other: Ipv4Addr::from_bits(0x0b00_0000 + number).into(),
    };
    let mut sets = Ipsets::open()?;
    sets.create(&Set { max_entries: COUNT, ..set("many", Kind::HashIpPortIp, false) })?;
    let wanted: Vec<Entry> = (0..COUNT).map(entry).collect();
    sets.run(&edits("many", true, wanted.clone()))?;
    let mut found = sets.entries("many")?;
    found.sort_unstable();
    ensure!(found == wanted, "{} of {COUNT} entries came back", found.len());
    let (_, listed) = saved("many")?;
    ensure!(listed.len() == wanted.len(), "ipset lists {}", listed.len());
    sets.run(&edits("many", false, wanted[1..].iter().copied()))?;
    expect(&mut sets, "many", &wanted[..1])
}

fn full() -> Result<()> {
    let mut sets = Ipsets::open()?;
    sets.create(&Set { max_entries: 16, ..set("small", Kind::HashIp, false) })?;
    sets.create(&set("other", Kind::HashIp, false))?;
    let mut all = edits("small", true, (1..=1000).map(|number| Entry::Ip(ip(false, number))));
    all.extend(edits("other", true, [Entry::Ip(ip(false, 1))]));
    let Err(error) = sets.run(&all) else { bail!("a set of 16 took 1000") };
    let said = error.to_string();
    ensure!(said.contains("to set small") && said.contains("the set is full"), "{said}");
    ensure!(said.contains("4352") && !error.blames_the_request(), "{said}");
    expect(&mut sets, "other", &[Entry::Ip(ip(false, 1))])?;
    ensure!(!sets.entries("small")?.is_empty(), "a full set is empty");
    Ok(())
}

fn repeated() -> Result<()> {
    let mut sets = Ipsets::open()?;
    for kind in KINDS {
        let (name, entries) = (kind.name(), entries(kind, false));
        sets.create(&set(name, kind, false))?;
        sets.run(&edits(name, false, entries.clone()))?;
        sets.run(&edits(name, true, entries.clone()))?;
        sets.run(&edits(name, true, entries.clone()))?;
        expect(&mut sets, name, &entries)?;
        // In this order.
        let there_and_back = [edits(name, false, entries.clone()), edits(name, true, entries.clone())];
        sets.run(&there_and_back.concat())?;
        expect(&mut sets, name, &entries)?;
        sets.run(&edits(name, false, entries.clone()))?;
        sets.run(&edits(name, false, entries))?;
        expect(&mut sets, name, &[])?;
    }
    Ok(())
}

fn refusals() -> Result<()> {
    let mut sets = Ipsets::open()?;
    sets.create(&set("net", Kind::HashIpPortNet, false))?;
    sets.create(&set("ip", Kind::HashIp, false))?;
    let (address, other) = (ip(false, 1), ip(true, 1));
    let everything =
        Entry::IpPortNet { address, protocol: TCP, port: 80, net: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 };
    let cases = [
        ("net", everything, "add 10.1.0.1,tcp:80,0.0.0.0/0 to set net", "prefix must be from 1"),
        ("ip", Entry::Ip(Ipv4Addr::UNSPECIFIED.into()), "add 0.0.0.0 to set ip", "zeros"),
        ("ip", Entry::Ip(other), "add fd00::1:1 to set ip", "of another family"),
        ("none", Entry::Ip(address), "add 10.1.0.1 to set none", "there is no such set"),
    ];
    for (name, entry, operation, reason) in cases {
        let Err(error) = sets.run(&edits(name, true, [entry])) else { bail!("{entry} was taken") };
        let said = error.to_string();
        ensure!(said.contains(operation) && said.contains(reason), "{said}");
        ensure!(error.blames_the_request(), "{said}");
    }
    for (result, reason) in [
        (sets.entries("none").map(drop), "ENOENT"),
        (sets.destroy("none"), "there is no such set"),
        (sets.destroy(""), "there is no such set"),
        (sets.flush("none"), "flush set none"),
        (sets.swap("ip", "none"), "no such second set"),
        (sets.swap("ip", "net"), "different types"),
        (sets.create(&set(&"n".repeat(32), Kind::HashIp, false)), "1 to 31 bytes"),
        (sets.create(&set("", Kind::HashIp, false)), "1 to 31 bytes"),
        (sets.create(&set("a\0b", Kind::HashIp, false)), "NUL"),
    ] {
        let said = result.err().with_context(|| format!("{reason:?} was not said"))?.to_string();
        ensure!(said.contains(reason), "{said} does not say {reason:?}");
    }
    sets.create(&set(&"n".repeat(31), Kind::HashIp, false))?;
    ensure!(sets.headers()?.len() == 3, "refusals left sets behind");
    Ok(())
}

fn iptables(args: &[&str]) -> Result<()> {
    let output = Command::new("iptables").args(args).output().context("apt-get install iptables")?;
    ensure!(output.status.success(), "iptables {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

const RULE: [&str; 8] = ["OUTPUT", "-m", "set", "--match-set", "used", "dst", "-j", "ACCEPT"];

fn referenced() -> Result<()> {
    let mut sets = Ipsets::open()?;
    sets.create(&set("used", Kind::HashIp, false))?;
    iptables(&[&["-A"], &RULE[..]].concat())?;
    match sets.destroy("used") {
        Err(error) if error.is_busy() && error.to_string().contains("destroy set used") => {}
        other => bail!("{other:?}"),
    }
    ensure!(sets.headers()?[0].references == 1, "the rule is not counted");
    iptables(&[&["-D"], &RULE[..]].concat())?;
    Ok(sets.destroy("used")?)
}

fn swap() -> Result<()> {
    let mut sets = Ipsets::open()?;
    let [one, two] = [1, 2].map(|number| Entry::Ip(ip(false, number)));
    sets.create(&set("used", Kind::HashIp, false))?;
    sets.create(&Set { max_entries: 3, ..set("next", Kind::HashIp, false) })?;
    sets.run(&[edits("used", true, [one]), edits("next", true, [two])].concat())?;
    iptables(&[&["-A"], &RULE[..]].concat())?;
    sets.swap("used", "next")?;
    expect(&mut sets, "used", &[two])?;
    expect(&mut sets, "next", &[one])?;
    sets.destroy("next")?;
    let found = sets.headers()?;
    ensure!(found.len() == 1 && (found[0].references, found[0].max_entries) == (1, Some(3)), "{found:?}");
    Ok(())
}

fn made_again() -> Result<()> {
    let mut sets = Ipsets::open()?;
    let made = set("same", Kind::HashIp, false);
    sets.create(&made)?;
    sets.run(&edits("same", true, entries(Kind::HashIp, false)))?;
    sets.create(&made)?;
    expect(&mut sets, "same", &entries(Kind::HashIp, false))?;
    let ports = set("ports", Kind::BitmapPort, false);
    sets.create(&ports)?;
    sets.create(&Set { max_entries: 1, ..ports })?;
    let others = [
        set("same", Kind::HashIpPort, false),
        set("same", Kind::HashIp, true),
        Set { max_entries: 5, ..made },
    ];
    for other in others {
        let Err(error) = sets.create(&other) else { bail!("{other:?} passes for another") };
        let said = error.to_string();
        ensure!(said.contains("create set same") && said.contains("EEXIST"), "{said}");
    }
    Ok(())
}

fn flush() -> Result<()> {
    let mut sets = Ipsets::open()?;
    for kind in KINDS {
        sets.create(&set(kind.name(), kind, false))?;
        sets.run(&edits(kind.name(), true, entries(kind, false)))?;
        sets.flush(kind.name())?;
        expect(&mut sets, kind.name(), &[])?;
    }
    Ok(())
}

fn refused_in_bulk() -> Result<()> {
    let mut sets = Ipsets::open()?;
    let all = edits("none", true, (0..10_000).map(|number| Entry::Ip(ip(true, number))));
    let Err(error) = sets.run(&all) else { bail!("a set that is not there took entries") };
    ensure!(matches!(error, Error::Refused { .. }), "{error:?}");
    sets.create(&set("none", Kind::HashIp, true))?;
    Ok(sets.run(&all)?)
}
