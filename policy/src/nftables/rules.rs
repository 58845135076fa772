//! The rules of every chain.

use std::sync::Arc;

use endpoint_cache::{Family, Protocol};
use kernel::nft::expr::{
    Action, Comparison, CtKey, Expr, FibFlags, Load, Match, MetaKey, PayloadBase, Register, RejectWith,
    SetAccess, TupleDirection, TupleKey,
};
use kernel::nft::{Bytes, Rule, Verdict};

use super::layout::{self, Fixed, address_type, chain, policy_chain, set_name};
use crate::policy::Direction;
use crate::program::{Clause, PolicyKey, PortMatch, Profile};
use crate::settings::{Denied, Established, LOG_GROUP, Settings, UnknownPods};

/// Where values go that are looked at.
const SCRATCH: Register = Register::new(0);

/// Denied packets that are logged in a second, of all pods together; the others are counted all the same.
const LOGGED_PER_SECOND: u32 = 50;
/// Bytes of a denied packet that are looked at: its headers.
const LOGGED_BYTES: u32 = 128;

/// What is said of packets that come while rules change.
const REPLACED: &str = "met rules that were being replaced";

/// `IPPROTO_TCP`
const TCP: u8 = 6;

/// What the rules that are always there depend on.
pub(super) struct Style<'a> {
    pub(super) family: Family,
    pub(super) settings: &'a Settings,
    /// The generation that connections get which are allowed now, as bits of the mark.
    pub(super) mark: u32,
}

fn rule(comment: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule {
        expressions: parts.into_iter().flatten().collect(),
        comment: (!comment.is_empty()).then(|| layout::comment(comment)),
    }
}

fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Action(Action::Verdict(verdict))]
}

fn goto(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Goto(chain.to_owned()))
}

fn counter() -> Vec<Expr> {
    vec![Expr::Action(Action::Counter)]
}

fn compare(comparison: Comparison, with: &[u8]) -> Expr {
    Expr::Match(Match::Cmp { register: SCRATCH, comparison, with: Bytes::from_slice(with) })
}

fn contains(set: &str, inverted: bool) -> Expr {
    Expr::Set(SetAccess::Contains { set: set.to_owned(), key: SCRATCH, inverted })
}

/// Who opened the connection, as it is known there, before its source is translated.
fn client(family: Family, into: Register) -> Expr {
    tuple_address(family, TupleDirection::Original, into)
}

/// Who answers in truth, after the destination was translated.
fn server(family: Family, into: Register) -> Expr {
    tuple_address(family, TupleDirection::Reply, into)
}

fn tuple_address(family: Family, direction: TupleDirection, into: Register) -> Expr {
    let key = match family {
        Family::V4 => TupleKey::SourceAddress,
        Family::V6 => TupleKey::SourceAddress6,
    };
    Expr::Load(Load::CtTuple { key, direction, into })
}

fn protocol(into: Register) -> Expr {
    Expr::Load(Load::Ct { key: CtKey::Protocol, into })
}

/// The port that the server really serves.
fn served_port(into: Register) -> Expr {
    Expr::Load(Load::CtTuple { key: TupleKey::SourcePort, direction: TupleDirection::Reply, into })
}

/// Goes on if conntrack has one of these states.
fn state(any_of: u32) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Ct { key: CtKey::State, into: SCRATCH }),
        masked(any_of),
        compare(Comparison::Ne, &[0; 4]),
    ]
}

fn masked(mask: u32) -> Expr {
    let (mask, xor) = (Bytes::from_slice(&mask.to_ne_bytes()), Bytes::from_slice(&[0; 4]));
    Expr::Match(Match::Bitwise { register: SCRATCH, mask, xor })
}

/// `meta l4proto`
fn is_protocol(number: u8) -> Vec<Expr> {
    vec![Expr::Load(Load::Meta { key: MetaKey::L4Proto, into: SCRATCH }), compare(Comparison::Eq, &[number])]
}

/// A TCP segment that resets the connection. It carries nothing that a policy could be about.
fn is_reset() -> Vec<Expr> {
    // `struct tcphdr`: the offset of the flags, and RST among them.
    const FLAGS: u32 = 13;
    const RST: u8 = 4;
    let reset = Expr::Match(Match::Bitwise {
        register: SCRATCH,
        mask: Bytes::from_slice(&[RST]),
        xor: Bytes::from_slice(&[0]),
    });
    let flags = vec![payload(PayloadBase::Transport, FLAGS, 1), reset, compare(Comparison::Ne, &[0])];
    [is_protocol(TCP), flags].concat()
}

fn payload(base: PayloadBase, offset: u32, len: u32) -> Expr {
    Expr::Load(Load::Payload { base, offset, len, into: SCRATCH })
}

impl Style<'_> {
    /// The chains that are there whatever the policies, with their rules; those that are called stand first.
    pub(super) fn chains(&self) -> Vec<(&'static str, Vec<Rule>)> {
        vec![
            (chain::DENIED, self.denied()),
            (chain::ALLOWED, self.allowed()),
            (chain::INTO_PODS, self.judge_servers()),
            (chain::UNKNOWN, self.unknown()),
            (chain::UNTRACKED, self.untracked()),
            (chain::CONNECTIONS, self.connections()),
            (chain::FORWARD, self.forward()),
            (chain::OUTPUT, self.output()),
        ]
    }

    /// Most packets meet only the first rule: it tells the generation in force without a lookup.
    pub(super) fn forward(&self) -> Vec<Rule> {
        let is_current = compare(Comparison::Eq, &self.mark.to_ne_bytes());
        let parts = [self.generation(), vec![is_current], verdict(Verdict::Accept)];
        let mut rules = vec![rule("connections that were allowed of late", parts)];
        rules.extend(Self::to_judges());
        rules
    }

    fn to_judges() -> [Rule; 2] {
        let jump = verdict(Verdict::Jump(chain::CONNECTIONS.to_owned()));
        // Every way through the rules ends in a verdict. Only a packet that came while they were replaced, and was led to
        // a chain that is newer than itself, comes here.
        [rule("", [jump]), rule(REPLACED, [verdict(Verdict::Drop)])]
    }

    /// A process of this node, or IPVS, may send under a pod's address.
    fn output(&self) -> Vec<Rule> {
        let local = Expr::Load(Load::FibType { of: FibFlags::Saddr, into: SCRATCH });
        let is_local = vec![local, compare(Comparison::Eq, &Load::LOCAL.to_ne_bytes())];
        let mut rules = vec![
            rule("a node may reach its own pods", [is_local, verdict(Verdict::Accept)]),
            rule(
                "resets, which say what is denied in the pod's name",
                [is_reset(), verdict(Verdict::Accept)],
            ),
        ];
        rules.extend(Self::to_judges());
        rules
    }

    /// Lets pass what has been judged, and leads the rest to its judges.
    fn connections(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.family == Family::V6 {
            rules.push(self.neighbour_discovery());
        }
        rules.push(self.judged());
        rules.push(rule("", [state(CtKey::STATE_INVALID | CtKey::STATE_UNTRACKED), goto(chain::UNTRACKED)]));
        let width = address_type(self.family).width();
        let both = vec![client(self.family, SCRATCH), server(self.family, SCRATCH.after(width))];
        let itself = vec![contains(Fixed::Itself.name(), false)];
        rules.push(rule("a pod may reach itself", [both, itself, goto(chain::ALLOWED)]));
        if self.settings.unknown_pods == UnknownPods::Deny {
            for end in [client(self.family, SCRATCH), server(self.family, SCRATCH)] {
                let unknown =
                    vec![end, contains(Fixed::Ranges.name(), false), contains(Fixed::Pods.name(), true)];
                rules.push(rule("", [unknown, goto(chain::UNKNOWN)]));
            }
        }
        rules.extend(self.to_policies(Direction::Egress));
        rules.push(rule("", [goto(chain::INTO_PODS)]));
        rules
    }

    fn neighbour_discovery(&self) -> Rule {
        const ICMPV6: u8 = 58;
        let kind = payload(PayloadBase::Transport, 0, 1);
        let within = vec![kind, compare(Comparison::Gte, &[133]), compare(Comparison::Lte, &[137])];
        rule("neighbour discovery", [is_protocol(ICMPV6), within, verdict(Verdict::Accept)])
    }

    /// The mark says that the connection was allowed by rules that still are in force.
    fn judged(&self) -> Rule {
        let is_judged = match self.settings.established {
            Established::Keep => compare(Comparison::Ne, &[0; 4]),
            Established::Cut | Established::Drain(_) => contains(Fixed::Generations.name(), false),
        };
        rule("connections that were allowed", [self.generation(), vec![is_judged], verdict(Verdict::Accept)])
    }

    /// The bits of the connection's mark that tell its generation.
    fn generation(&self) -> Vec<Expr> {
        vec![Expr::Load(Load::Ct { key: CtKey::Mark, into: SCRATCH }), masked(self.settings.mark_mask)]
    }

    fn judge_servers(&self) -> Vec<Rule> {
        let mut rules = self.to_policies(Direction::Ingress);
        rules.push(rule("", [goto(chain::ALLOWED)]));
        rules
    }

    /// Leads on whoever is isolated. The kernel may find neither the old nor the new element of a map for a packet that it
    /// looks up while it swaps them, so who is isolated stands in a set too, which no swap touches.
    fn to_policies(&self, direction: Direction) -> Vec<Rule> {
        let who = || match direction {
            Direction::Egress => client(self.family, SCRATCH),
            Direction::Ingress => server(self.family, SCRATCH),
        };
        let mut rules = vec![rule("", [vec![who(), lookup(Fixed::Subjects(direction))]])];
        if !self.settings.audit {
            let isolated = vec![who(), contains(Fixed::Isolated(direction).name(), false)];
            rules.push(rule(REPLACED, [isolated, verdict(Verdict::Drop)]));
        }
        rules
    }

    /// Notes in the connection's mark that it was allowed, and by which rules.
    pub(super) fn allowed(&self) -> Vec<Rule> {
        let keep = Bytes::from_slice(&(!self.settings.mark_mask).to_ne_bytes());
        let xor = Bytes::from_slice(&self.mark.to_ne_bytes());
        let mark = vec![
            Expr::Load(Load::Ct { key: CtKey::Mark, into: SCRATCH }),
            Expr::Match(Match::Bitwise { register: SCRATCH, mask: keep, xor }),
            Expr::Action(Action::SetConnectionMark { from: SCRATCH }),
        ];
        vec![rule("", [mark, verdict(Verdict::Accept)]), rule("", [verdict(Verdict::Accept)])]
    }

    fn denied(&self) -> Vec<Rule> {
        let reject = |with| vec![Expr::Action(Action::Reject(with))];
        let unreachable = match self.family {
            Family::V4 => RejectWith::PortUnreachable,
            Family::V6 => RejectWith::PortUnreachable6,
        };
        match self.settings.denied {
            Denied::Drop => vec![rule("", [verdict(Verdict::Drop)])],
            Denied::Reject => vec![
                rule("", [is_protocol(TCP), reject(RejectWith::TcpReset)]),
                rule("", [reject(unreachable)]),
            ],
        }
    }

    /// Dropped without a word: whoever tries again gets through once the pod is known.
    fn unknown(&self) -> Vec<Rule> {
        let fate = if self.settings.audit { goto(chain::INTO_PODS) } else { verdict(Verdict::Drop) };
        self.logged("policy/unknown", rule("no known pod has this address", [counter(), fate]))
    }

    /// What belongs to no connection cannot be judged.
    fn untracked(&self) -> Vec<Rule> {
        let (source, destination, len) = match self.family {
            Family::V4 => (12, 16, 4),
            Family::V6 => (8, 24, 16),
        };
        let fate = || if self.settings.audit { verdict(Verdict::Accept) } else { verdict(Verdict::Drop) };
        let isolated = |(offset, direction)| {
            let address = payload(PayloadBase::Network, offset, len);
            let who = vec![address, contains(Fixed::Isolated(direction).name(), false)];
            rule("belongs to no connection", [who, counter(), fate()])
        };
        let ends = [source, destination].into_iter();
        let ends = ends.flat_map(|offset| Direction::BOTH.map(|direction| (offset, direction)));
        ends.map(isolated).chain([rule("", [verdict(Verdict::Accept)])]).collect()
    }

    /// Asks one policy after the other, and denies what none allows.
    pub(super) fn profile(&self, profile: &Arc<Profile>) -> Vec<Rule> {
        let ask = |name| {
            let policy = policy_chain(&(profile.direction, Clone::clone(name)));
            rule("", [verdict(Verdict::Jump(policy))])
        };
        let mut rules: Vec<Rule> = profile.policies.iter().map(ask).collect();
        let fate = if self.settings.audit { goto(next(profile.direction)) } else { goto(chain::DENIED) };
        let comment = format!("none of {profile} allows it");
        rules.extend(self.logged(&profile.log_prefix(), rule(&comment, [counter(), fate])));
        rules
    }

    fn logged(&self, prefix: &str, last: Rule) -> Vec<Rule> {
        if !(self.settings.log_denied || self.settings.audit) {
            return vec![last];
        }
        let limit = Expr::Match(Match::Limit { per_second: LOGGED_PER_SECOND, burst: LOGGED_PER_SECOND });
        let log = Action::Log { group: LOG_GROUP, prefix: prefix.to_owned(), snaplen: LOGGED_BYTES };
        vec![rule("", [vec![limit, Expr::Action(log)]]), last]
    }

    /// What a policy allows. Whatever no rule matches goes back to the profile.
    pub(super) fn policy(&self, (direction, _): &PolicyKey, clauses: &[Clause]) -> Vec<Rule> {
        let of_clause = |clause: &Clause| {
            let comment = format!("spec.{}[{}]", direction.as_str(), clause.rule);
            let parts = [self.peer(*direction, clause), self.port(clause), counter(), goto(next(*direction))];
            rule(&comment, parts)
        };
        clauses.iter().map(of_clause).collect()
    }

    fn peer(&self, direction: Direction, clause: &Clause) -> Vec<Expr> {
        let Some(set) = &clause.peer else { return Vec::new() };
        let other = match direction {
            Direction::Ingress => client(self.family, SCRATCH),
            Direction::Egress => server(self.family, SCRATCH),
        };
        vec![other, contains(&set_name(set), false)]
    }

    fn port(&self, clause: &Clause) -> Vec<Expr> {
        let is = |wanted: Protocol| vec![protocol(SCRATCH), compare(Comparison::Eq, &[wanted.number()])];
        match &clause.port {
            PortMatch::All => Vec::new(),
            PortMatch::Every(wanted) => is(*wanted),
            PortMatch::Numbers(wanted, first, last) if first == last => {
                [is(*wanted), vec![served_port(SCRATCH), compare(Comparison::Eq, &first.to_be_bytes())]]
                    .concat()
            }
            PortMatch::Numbers(wanted, first, last) => {
                let from = compare(Comparison::Gte, &first.to_be_bytes());
                let to = compare(Comparison::Lte, &last.to_be_bytes());
                [is(*wanted), vec![served_port(SCRATCH), from, to]].concat()
            }
            PortMatch::Named(set) => {
                let width = address_type(self.family).width();
                vec![
                    server(self.family, SCRATCH),
                    protocol(SCRATCH.after(width)),
                    served_port(SCRATCH.after(width + 4)),
                    contains(&set_name(set), false),
                ]
            }
        }
    }
}

/// Who judges what a policy of this direction lets pass.
fn next(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => chain::INTO_PODS,
        Direction::Ingress => chain::ALLOWED,
    }
}

fn lookup(map: Fixed) -> Expr {
    Expr::Set(SetAccess::VerdictLookup { map: map.name().to_owned(), key: SCRATCH })
}
