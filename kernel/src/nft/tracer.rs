//! Having packets traced, by a table that the kernel takes away when its owner ends, however it ends.

use std::net::IpAddr;

use nix::errno::Errno;
use smallvec::smallvec;

use super::batch::Batch;
use super::connection::Nftables;
use super::expr::{self, Comparison, CtKey, Expr, Load, Match, MetaKey, PayloadBase, Register};
use super::types::{Bytes, Chain, ChainType, Family, Hook, HookPoint, Table, octets};
use super::uapi::{self, LIST_ELEM, msg, rule, userdata as kind};
use super::{read, userdata};
use crate::Error;
use crate::netlink::{Attributes, Writer};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Before everything else: `raw` less one.
const FIRST: i32 = -301;
/// As soon as it is known whether a packet is the first of its connection: connection tracking is at -200.
const TRACKED: i32 = -199;

const REGISTER: Register = Register::new(0);

/// Which packets are to be traced: the first ones of connections. `None` matches any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFilter {
    /// Who sends.
    pub source: Option<IpAddr>,
    /// To whom, before any translation.
    pub destination: Option<IpAddr>,
    /// To which port.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
}

/// How many packets are traced at most, counted for each protocol and each way into the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLimit {
    /// In a second, on the average.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// Has packets traced for as long as it lives. What becomes of them is heard by a [`Follower`](crate::follow::Follower).
pub struct Tracer {
    nftables: Nftables,
    table: Table,
}

impl Tracer {
    /// Begins.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel is older than 5.12, and would leave the table behind if this process were
    /// killed. When it lacks nf_tables or refuses.
    pub fn start(filter: &TraceFilter, limit: TraceLimit) -> Result<Self, Error> {
        let mut nftables = Nftables::open()?;
        let family = match filter.source.or(filter.destination) {
            Some(IpAddr::V4(_)) => Family::Ip,
            Some(IpAddr::V6(_)) => Family::Ip6,
            None => Family::Inet,
        };
        // The port is nobody else's, so that several can trace at once.
        let table = Table { family, name: format!("pointsman-trace-{}", nftables.port()) };
        nftables.commit(order(table.clone(), filter, limit)).map_err(|error| match error {
            Error::Refused { errno: Errno::EINVAL | Errno::EOPNOTSUPP, .. } => Error::Unsupported {
                what: "nftables tables that end with their owner, which came with Linux 5.12",
            },
            error => error,
        })?;
        Ok(Self { nftables, table })
    }

    /// The table that has the packets traced.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The comment of a rule of any table; `None` if it has none, or is gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn comment(&mut self, table: &Table, chain: &str, handle: u64) -> Result<Option<String>, Error> {
        let question = (msg::GETRULE, "a rule");
        let body = |w: &mut Writer| {
            w.string(rule::TABLE, &table.name);
            w.string(rule::CHAIN, chain);
            w.be64(rule::HANDLE, handle);
        };
        self.nftables.one(question, table.family.number(), body, |message| comment(message.attributes()))
    }

    /// Where a chain of any table hangs; `None` if rules jump to it, or it is gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn hook(&mut self, table: &Table, chain: &str) -> Result<Option<HookPoint>, Error> {
        let question = (msg::GETCHAIN, "a chain");
        let body = |w: &mut Writer| {
            w.string(uapi::chain::TABLE, &table.name);
            w.string(uapi::chain::NAME, chain);
        };
        self.nftables.one(question, table.family.number(), body, |message| {
            let hook = read::chain(message, table)?.hook?;
            Some(hook.point)
        })
    }
}

/// The comment of a rule: `nft` keeps it beside the rule, iptables-nft in an expression.
fn comment(attributes: Attributes<'_>) -> Option<String> {
    let beside = attributes.get(rule::USERDATA).and_then(|bytes| userdata::text(bytes, kind::COMMENT));
    beside.or_else(|| {
        let expressions = attributes.nested(rule::EXPRESSIONS)?;
        expressions.into_iter().find_map(|(_, expression)| comment_match(Attributes(expression)))
    })
}

/// `struct xt_comment_info`: the text of `-m comment`.
fn comment_match(expression: Attributes<'_>) -> Option<String> {
    const MATCH_NAME: u16 = 1;
    const MATCH_INFO: u16 = 3;
    let data = expression.nested(expr::DATA).filter(|_| expression.string(expr::NAME) == Some("match"))?;
    let text = data.string(MATCH_INFO).filter(|_| data.string(MATCH_NAME) == Some("comment"))?;
    Some(text.to_owned())
}

/// The end of a rule: so often as the limit allows, has the packet traced (`limit`, and `meta nftrace set 1`).
pub(super) fn have_traced(w: &mut Writer, limit: TraceLimit) {
    const META_NFTRACE: u32 = 12;
    let TraceLimit { per_second, burst } = limit;
    Expr::Match(Match::Limit { per_second, burst }).encode(w);
    Expr::Load(Load::Immediate { value: smallvec![1], into: REGISTER }).encode(w);
    w.nest(LIST_ELEM, |w| {
        w.string(expr::NAME, "meta");
        w.nest(expr::DATA, |w| {
            w.be32(2, META_NFTRACE);
            w.be32(3, REGISTER.number());
        });
    });
}

fn order(table: Table, filter: &TraceFilter, limit: TraceLimit) -> Batch {
    let family = table.family;
    let mut batch = Batch::new(table);
    batch.add_own_table("Traces packets for pointsman trace --live, and goes with it");
    for (point, name) in [(HookPoint::Prerouting, "prerouting"), (HookPoint::Output, "output")] {
        for (priority, when) in [(FIRST, "first"), (TRACKED, "tracked")] {
            let of_this = |protocol: &u8| (*protocol == UDP) == (priority == TRACKED);
            let wanted = [TCP, UDP, SCTP].into_iter().filter(of_this);
            let mut wanted = wanted.filter(|one| filter.protocol.is_none_or(|only| only == *one)).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let hook = Hook { kind: ChainType::Filter, point, priority };
            let chain = Chain { name: format!("{name}-{when}"), hook: Some(hook) };
            batch.add_chain(&chain);
            for protocol in wanted {
                batch.add_tracing_rule(&chain.name, &conditions(family, filter, protocol), limit);
            }
        }
    }
    batch
}

/// What the first packet of a connection of a protocol looks like.
fn conditions(family: Family, filter: &TraceFilter, protocol: u8) -> Vec<Expr> {
    let mut all = vec![Expr::Load(Load::Meta { key: MetaKey::L4Proto, into: REGISTER }), equal(&[protocol])];
    let (source_at, destination_at) = if family == Family::Ip6 { (8, 24) } else { (12, 16) };
    for (address, at) in [(filter.source, source_at), (filter.destination, destination_at)] {
        if let Some(address) = address {
            all.extend(has(PayloadBase::Network, at, &octets(address)));
        }
    }
    if let Some(port) = filter.port {
        all.extend(has(PayloadBase::Transport, 2, &port.to_be_bytes()));
    }
    all.extend(first_packet(protocol));
    all
}

fn first_packet(protocol: u8) -> Vec<Expr> {
    match protocol {
        TCP => {
            /// Of FIN, SYN, RST and ACK, only SYN.
            const FLAGS: u8 = 0x17;
            const SYN: u8 = 0x02;
            vec![payload(PayloadBase::Transport, 13, 1), masked(&[FLAGS]), equal(&[SYN])]
        }
        SCTP => {
            const INIT: u8 = 1;
            has(PayloadBase::Transport, 12, &[INIT]).into()
        }
        _ => vec![
            Expr::Load(Load::Ct { key: CtKey::State, into: REGISTER }),
            masked(&CtKey::STATE_NEW.to_ne_bytes()),
            equal(&CtKey::STATE_NEW.to_ne_bytes()),
        ],
    }
}

fn has(base: PayloadBase, offset: u32, bytes: &[u8]) -> [Expr; 2] {
    [payload(base, offset, u32::try_from(bytes.len()).unwrap_or(u32::MAX)), equal(bytes)]
}

fn payload(base: PayloadBase, offset: u32, len: u32) -> Expr {
    Expr::Load(Load::Payload { base, offset, len, into: REGISTER })
}

fn masked(mask: &[u8]) -> Expr {
    Expr::Match(Match::Bitwise {
        register: REGISTER,
        mask: Bytes::from_slice(mask),
        xor: smallvec![0; mask.len()],
    })
}

fn equal(bytes: &[u8]) -> Expr {
    let with = Bytes::from_slice(bytes);
    Expr::Match(Match::Cmp { register: REGISTER, comparison: Comparison::Eq, with })
}
