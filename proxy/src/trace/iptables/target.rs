//! What becomes of packets that a rule matches.

use std::net::{IpAddr, SocketAddr};

use super::rule::written;
use super::words::{self, Given, masked, number};

/// Where a rule leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To the next rule: nothing is done that makes a difference here.
    Next,
    /// To a chain and back.
    Jump(String),
    /// To a chain, and from there to where this one was come from.
    Goto(String),
    /// Back to where this chain was come from.
    Return,
    /// On, out of this table.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, with an answer.
    Reject,
    /// To the next rule with another mark: bits are taken off, others are toggled.
    Mark {
        /// What is taken off.
        mask: u32,
        /// What is toggled.
        value: u32,
    },
    /// To the next rule, the connection with another mark.
    ConnectionMark {
        /// What is taken off.
        mask: u32,
        /// What is toggled.
        value: u32,
    },
    /// To the next rule, the connection marked like the packet.
    SaveMark {
        /// The bits of the packet's mark that count.
        packet: u32,
        /// The bits that are taken off.
        connection: u32,
    },
    /// To the next rule, the packet marked like its connection.
    RestoreMark {
        /// The bits that are taken off.
        packet: u32,
        /// The bits of the connection's mark that count.
        connection: u32,
    },
    /// On, to another destination.
    Dnat(Destination),
    /// On, under another source.
    Masquerade,
    /// On, without being tracked.
    Untracked,
    /// Nothing can be told of it: how it reads.
    Unknown(String),
}

/// What a destination is translated to. What is not there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

/// Extensions that let packets go on, and change nothing that is looked at here.
const HARMLESS: [&str; 20] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

impl Target {
    /// Reads the words from `-j` or `-g` on; there may be none.
    pub(super) fn parse(words: &[String]) -> Self {
        let [option, name, rest @ ..] = words else { return Self::Next };
        if option == "-g" {
            return Self::Goto(name.clone());
        }
        let options = words::options(rest);
        let read = match name.as_str() {
            "ACCEPT" => Some(Self::Accept),
            "DROP" => Some(Self::Drop),
            "REJECT" => Some(Self::Reject),
            "RETURN" => Some(Self::Return),
            "MASQUERADE" | "SNAT" => Some(Self::Masquerade),
            "NOTRACK" => Some(Self::Untracked),
            "CT" if options.iter().any(|given| given.name == "--notrack") => Some(Self::Untracked),
            "CT" => Some(Self::Next),
            "MARK" => mark(&options),
            "CONNMARK" => connection_mark(&options),
            "DNAT" => destination(&options).map(Self::Dnat),
            "NFQUEUE" | "QUEUE" | "NETMAP" | "REDIRECT" | "TPROXY" | "TEE" | "HMARK" | "SYNPROXY" => None,
            name if HARMLESS.contains(&name) => Some(Self::Next),
            chain if options.is_empty() => Some(Self::Jump(chain.to_owned())),
            _ => None,
        };
        read.unwrap_or_else(|| {
            Self::Unknown(format!("-j {name} {}", written(None, &options)).trim_end().to_owned())
        })
    }
}

fn mark(options: &[Given<'_>]) -> Option<Target> {
    let [given] = options else { return None };
    let (value, mask) = masked(given.value()?)?;
    set_mark(given.name, value, mask).map(|(mask, value)| Target::Mark { mask, value })
}

/// What is taken off and what is toggled.
fn set_mark(option: &str, value: u32, mask: u32) -> Option<(u32, u32)> {
    match option {
        "--set-xmark" => Some((mask, value)),
        "--set-mark" => Some((mask | value, value)),
        "--or-mark" => Some((value, value)),
        "--and-mark" => Some((!value, 0)),
        "--xor-mark" => Some((0, value)),
        _ => None,
    }
}

fn connection_mark(options: &[Given<'_>]) -> Option<Target> {
    let first = options.first()?;
    if let Some((value, mask)) = first.value().and_then(masked) {
        return set_mark(first.name, value, mask).map(|(mask, value)| Target::ConnectionMark { mask, value });
    }
    let bits = |name| match options.iter().find(|given| given.name == name) {
        Some(given) => number(given.value()?),
        None => Some(u32::MAX),
    };
    let (packet, connection) = (bits("--nfmask")?, bits("--ctmask")?);
    match first.name {
        "--save-mark" => Some(Target::SaveMark { packet, connection }),
        "--restore-mark" => Some(Target::RestoreMark { packet, connection }),
        _ => None,
    }
}

/// Reads one place, not one of several.
fn destination(options: &[Given<'_>]) -> Option<Destination> {
    let place = options.iter().find(|given| given.name == "--to-destination")?.value()?;
    if let Ok(both) = place.parse::<SocketAddr>() {
        return Some(Destination { address: Some(both.ip()), port: Some(both.port()) });
    }
    if let Some(port) = place.strip_prefix(':') {
        return port.parse().ok().map(|port| Destination { address: None, port: Some(port) });
    }
    let address = place.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(Destination { address: Some(address), port: None })
}
