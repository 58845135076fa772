//! What rules ask of packets: the options and extensions that are understood.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::rule::written;
use super::words::{Given, masked};

/// A test, or its opposite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Match {
    pub(super) negated: bool,
    pub(super) test: Test,
}

/// Which end of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Something that holds of a packet or does not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `-s`, `-d`
    Net(Side, IpNet),
    /// `--src-range`, `--dst-range`
    Between(Side, IpAddr, IpAddr),
    /// `--ctorigdst`
    AskedNet(IpNet),
    /// `-i`; a trailing `+` stands for any ending.
    Input(String),
    /// `-o`
    Output(String),
    /// `-p`; none for a protocol that is never asked about.
    Protocol(Option<u8>),
    /// `--dport`, `--sports`
    Port(Side, Ports),
    /// `--ports`
    EitherPort(Ports),
    /// `--ctorigdstport`
    AskedPort(Ports),
    /// `--ctstate`
    State(Vec<String>),
    /// `--dst-type`, `--src-type`
    Type(Side, Vec<String>),
    /// `-m mark`: value and mask.
    Mark(u32, u32),
    /// `-m connmark`
    ConnectionMark(u32, u32),
    /// `-m statistic`: how probable it is.
    Chance(f64),
    /// `-m recent`
    Recent(Recent),
    /// `--match-set`, with what is looked up of each dimension.
    Set(String, Vec<Side>),
    /// Whether it goes back to who sent it.
    ToItself,
    /// The first packet of any connection that is asked about is such.
    Constant(bool),
    /// Nothing can be told of it: how it reads.
    Unknown(String),
}

/// Ranges of ports.
pub(super) type Ports = Vec<RangeInclusive<u16>>;

/// A look into a list of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recent {
    pub(super) list: String,
    pub(super) side: Side,
    /// Looked up under this mask.
    pub(super) mask: Option<IpAddr>,
    /// Must have been seen within as many.
    pub(super) seconds: Option<u64>,
}

/// What the options of an extension ask, or those that need none.
pub(super) fn of(extension: Option<&str>, options: &[Given<'_>]) -> Vec<Match> {
    let read = match extension {
        None => each(options, plain),
        Some("comment") => Some(Vec::new()),
        Some("tcp" | "udp" | "sctp" | "udplite" | "dccp" | "multiport") => each(options, transport),
        Some("conntrack" | "state") => each(options, tracked),
        Some("addrtype") => each(options, kind_of_address),
        Some("mark") => each(options, |given| mark(given, Test::Mark)),
        Some("connmark") => each(options, |given| mark(given, Test::ConnectionMark)),
        Some("iprange") => each(options, between),
        Some("set") => each(options, set),
        Some("bpf") => each(options, to_itself),
        Some("physdev") => each(options, bridged),
        Some("statistic") => statistic(options).map(|found| vec![found]),
        Some("recent") => recent(options).map(|found| vec![found]),
        Some(_) => None,
    };
    read.unwrap_or_else(|| vec![Match { negated: false, test: Test::Unknown(written(extension, options)) }])
}

fn each(options: &[Given<'_>], read: impl Fn(&Given<'_>) -> Option<Test>) -> Option<Vec<Match>> {
    let read = |given| read(given).map(|test| Match { negated: given.negated, test });
    options.iter().map(read).collect()
}

fn plain(given: &Given<'_>) -> Option<Test> {
    let value = given.value();
    Some(match given.name {
        "-s" => Test::Net(Side::Source, net(value?)?),
        "-d" => Test::Net(Side::Destination, net(value?)?),
        "-i" => Test::Input(value?.to_owned()),
        "-o" => Test::Output(value?.to_owned()),
        "-p" => protocol(value?),
        // A second fragment or a later one.
        "-f" => Test::Constant(false),
        _ => return None,
    })
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn protocol(name: &str) -> Test {
    match name {
        "tcp" => Test::Protocol(Some(6)),
        "udp" => Test::Protocol(Some(17)),
        "sctp" => Test::Protocol(Some(132)),
        "all" | "0" => Test::Constant(true),
        other => Test::Protocol(other.parse().ok()),
    }
}

fn transport(given: &Given<'_>) -> Option<Test> {
    let value = given.value();
    Some(match given.name {
        "--dport" | "--dports" => Test::Port(Side::Destination, ports(value?)?),
        "--sport" | "--sports" => Test::Port(Side::Source, ports(value?)?),
        "--ports" => Test::EitherPort(ports(value?)?),
        "--syn" => Test::Constant(true),
        "--tcp-flags" => match given.values {
            // The first packet has this flag alone.
            [mask, flags] => Test::Constant(flags == if has_word(mask, "SYN") { "SYN" } else { "NONE" }),
            _ => return None,
        },
        _ => return None,
    })
}

fn has_word(list: &str, word: &str) -> bool {
    list == "ALL" || list.split(',').any(|one| one == word)
}

/// Reads `80,443,1000:2000`.
fn ports(text: &str) -> Option<Ports> {
    let range = |text: &str| match text.split_once(':') {
        Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
        None => text.parse().ok().map(|port| port..=port),
    };
    text.split(',').map(range).collect()
}

fn tracked(given: &Given<'_>) -> Option<Test> {
    let value = given.value()?;
    Some(match given.name {
        "--ctstate" | "--state" => Test::State(list(value)),
        "--ctdir" => Test::Constant(value == "ORIGINAL"),
        "--ctproto" => protocol(value),
        "--ctorigsrc" => Test::Net(Side::Source, net(value)?),
        "--ctorigdst" => Test::AskedNet(net(value)?),
        "--ctorigdstport" => Test::AskedPort(ports(value)?),
        _ => return None,
    })
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn kind_of_address(given: &Given<'_>) -> Option<Test> {
    let side = match given.name {
        "--src-type" => Side::Source,
        "--dst-type" => Side::Destination,
        // What addresses an interface has is not known here.
        _ => return None,
    };
    given.value().map(|types| Test::Type(side, list(types)))
}

fn mark(given: &Given<'_>, test: fn(u32, u32) -> Test) -> Option<Test> {
    let (value, mask) = masked(given.value()?)?;
    (given.name == "--mark").then(|| test(value, mask))
}

fn between(given: &Given<'_>) -> Option<Test> {
    let side = match given.name {
        "--src-range" => Side::Source,
        "--dst-range" => Side::Destination,
        _ => return None,
    };
    let (from, to) = given.value()?.split_once('-')?;
    Some(Test::Between(side, from.parse().ok()?, to.parse().ok()?))
}

fn set(given: &Given<'_>) -> Option<Test> {
    let side = |word: &str| match word {
        "src" => Some(Side::Source),
        "dst" => Some(Side::Destination),
        _ => None,
    };
    match (given.name, given.values) {
        ("--match-set", [name, sides]) => {
            Some(Test::Set(name.clone(), sides.split(',').map(side).collect::<Option<_>>()?))
        }
        // How the set is searched makes no difference to what is found.
        ("--update-counters" | "--update-subcounters", []) => Some(Test::Constant(!given.negated)),
        _ => None,
    }
}

/// The one program that is known here is that of the rules of policies.
fn to_itself(given: &Given<'_>) -> Option<Test> {
    let is_known = given.name == "--bytecode" && policy::iptables::asks_whether_to_itself(given.value()?);
    is_known.then_some(Test::ToItself)
}

/// What is routed is not bridged.
fn bridged(given: &Given<'_>) -> Option<Test> {
    (given.name == "--physdev-is-bridged").then_some(Test::Constant(false))
}

fn statistic(options: &[Given<'_>]) -> Option<Match> {
    let value = |name| options.iter().find(|given| given.name == name);
    let found = match value("--mode")?.value()? {
        "random" => value("--probability").and_then(|given| Some((given, given.value()?.parse().ok()?)))?,
        "nth" => value("--every").and_then(|given| Some((given, 1.0 / f64::from(number(given)?))))?,
        _ => return None,
    };
    let (given, chance) = found;
    (0.0..=1.0).contains(&chance).then(|| Match { negated: given.negated, test: Test::Chance(exact(chance)) })
}

fn number(given: &Given<'_>) -> Option<u32> {
    given.value()?.parse().ok().filter(|number| *number > 0)
}

/// The kernel holds probabilities as so many 2^31sts: one in three is meant by 0.33333333349.
fn exact(chance: f64) -> f64 {
    const STEP: f64 = 1.0 / 2_147_483_648.0;
    let one_in = 1.0 / (1.0 / chance).round();
    if (one_in - chance).abs() <= STEP { one_in } else { chance }
}

fn recent(options: &[Given<'_>]) -> Option<Match> {
    let mut found = Recent { list: "DEFAULT".to_owned(), side: Side::Source, mask: None, seconds: None };
    let (mut negated, mut notes) = (false, false);
    for given in options {
        match given.name {
            "--rcheck" | "--update" => negated = given.negated,
            "--set" => notes = true,
            "--name" => given.value()?.clone_into(&mut found.list),
            "--seconds" => found.seconds = Some(given.value()?.parse().ok()?),
            "--mask" => found.mask = Some(given.value()?.parse().ok()?),
            "--rsource" => found.side = Side::Source,
            "--rdest" => found.side = Side::Destination,
            "--reap" => {}
            _ => return None,
        }
    }
    // What notes an address matches always.
    let test = if notes { Test::Constant(true) } else { Test::Recent(found) };
    Some(Match { negated, test })
}
