//! A rule: its expressions one after the other, as the kernel evaluates them (`nft_do_chain`).

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;
use kernel::nft::expr::{
    Action, DynsetOp, Expr, FibFlags, InstalledExpr, Load, Match, MetaKey, NatKind, Register, RejectWith,
    SetAccess,
};
use kernel::nft::{Data, Element, ListedRule, Verdict};

use super::super::model::Step;
use super::chain::{Evaluation, Place};
use super::registers::Registers;
use super::table::{Rules, Shape};
use super::traveller::Traveller;
use super::words;

/// Values of a random number beyond which it is not tried what each of them leads to.
const MOST_VALUES: u32 = 100_000;

/// Bytes of an interface's name (`IFNAMSIZ`).
const INTERFACE_NAME: usize = 16;

/// What becomes of a packet that was shown to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on to the next rule.
    Next,
    /// The rule decides.
    Decided(Verdict),
    /// It is answered with an error.
    Rejected,
}

/// What becomes of it at an expression.
enum Outcome {
    /// On to the next expression.
    Go,
    /// The rule is not for it.
    Miss,
    /// It is for it, and this comes of it.
    Ends(Fate),
    /// It went several ways, of which none is this one.
    Gone,
}

/// A packet within a rule.
#[derive(Clone)]
struct Run {
    traveller: Traveller,
    registers: Registers,
    /// The expression that is next.
    at: usize,
    /// What was met in this rule, to be told if it comes to anything.
    met: Vec<Step>,
    mark_before: u32,
}

impl Run {
    fn new(traveller: Traveller) -> Self {
        let mark_before = traveller.mark;
        Self { traveller, registers: Registers::default(), at: 0, met: Vec::new(), mark_before }
    }

    fn meet(&mut self, place: impl Into<String>, what: String) {
        self.met.push(Step { place: place.into(), what });
    }

    /// Notes an effect, and before it the mark if that is another now. On its way between two maps a number may pass
    /// through the mark, which is of no interest.
    fn effect(&mut self, place: &Place, what: String) {
        self.note_mark(place);
        self.meet(&place.shown, what);
    }

    fn note_mark(&mut self, place: &Place) {
        if self.traveller.mark != self.mark_before {
            self.mark_before = self.traveller.mark;
            self.meet(&place.shown, format!("meta mark set {:#010x}", self.traveller.mark));
        }
    }

    /// The rule came to something: what was met becomes part of the way, with what the rule says of itself.
    fn told(mut self, place: &Place, comment: Option<&str>) -> Traveller {
        if let Some(comment) = comment {
            let words = format!("comment \"{comment}\"");
            match self.met.last_mut() {
                Some(last) if last.place == place.shown => last.what = format!("{} {words}", last.what),
                _ => self.met.insert(0, Step { place: place.shown.clone(), what: words }),
            }
        }
        self.traveller.steps.append(&mut self.met);
        self.traveller
    }

    fn written(&mut self, into: Register, bytes: &[u8]) -> Outcome {
        if self.registers.write(into, bytes) { Outcome::Go } else { Outcome::Miss }
    }
}

impl<T: Rules> Evaluation<'_, T> {
    /// What becomes of a packet at a rule; with random numbers, of each of the packets that it may become.
    pub(super) fn rule(
        &mut self,
        place: &Place,
        rule: &ListedRule,
        traveller: Traveller,
    ) -> anyhow::Result<Vec<(Traveller, Fate)>> {
        let mut ended = Vec::new();
        let mut waiting = vec![Run::new(traveller)];
        while let Some(run) = waiting.pop() {
            ended.extend(self.run(place, rule, run, &mut waiting)?);
        }
        Ok(ended)
    }

    fn run(
        &mut self,
        place: &Place,
        rule: &ListedRule,
        mut run: Run,
        waiting: &mut Vec<Run>,
    ) -> anyhow::Result<Option<(Traveller, Fate)>> {
        let comment = rule.comment.as_deref();
        while let Some(expression) = rule.expressions.get(run.at) {
            self.count()?;
            run.at += 1;
            let outcome = match expression {
                InstalledExpr::Unknown { name } => self.not_understood(place, name),
                InstalledExpr::Known(Expr::Load(Load::Random { modulus, into })) => {
                    let next = rule.expressions.get(run.at);
                    self.draw(place, &mut run, (*modulus, *into), next, waiting)
                }
                InstalledExpr::Known(Expr::Load(load)) => self.load(place, &mut run, load),
                InstalledExpr::Known(Expr::Match(matching)) => compare(&mut run, matching),
                InstalledExpr::Known(Expr::Set(access)) => self.ask(place, &mut run, access)?,
                InstalledExpr::Known(Expr::Action(action)) => act(place, &mut run, action),
            };
            match outcome {
                Outcome::Go => {}
                Outcome::Gone => return Ok(None),
                Outcome::Miss => return Ok(Some((run.traveller, Fate::Next))),
                Outcome::Ends(fate) => return Ok(Some((run.told(place, comment), fate))),
            }
        }
        let had_effect =
            run.traveller.mark != run.mark_before || run.met.iter().any(|step| step.place == place.shown);
        run.note_mark(place);
        let traveller = if had_effect { run.told(place, comment) } else { run.traveller };
        Ok(Some((traveller, Fate::Next)))
    }

    fn not_understood(&mut self, place: &Place, name: &str) -> Outcome {
        self.note_unknown(format!(
            "chain {} has a rule that is none of ours, with an expression {name} that is not understood: it is taken not to match",
            place.shown
        ));
        Outcome::Miss
    }

    fn not_known(&mut self, place: &Place) -> Outcome {
        self.note_unknown(format!(
            "chain {} has a rule that looks at what is not known of the packet, such as its source port: it is taken not to match",
            place.shown
        ));
        Outcome::Miss
    }

    /// Every value of a random number makes a run of its own, except those that the comparison which follows ends.
    fn draw(
        &mut self,
        place: &Place,
        run: &mut Run,
        (modulus, into): (u32, Register),
        next: Option<&InstalledExpr>,
        waiting: &mut Vec<Run>,
    ) -> Outcome {
        if modulus == 0 || modulus > MOST_VALUES {
            self.note_unknown(format!(
                "chain {} draws one of {modulus} numbers, which are too many to be tried: its rule is taken not to match",
                place.shown
            ));
            return Outcome::Miss;
        }
        let share = run.traveller.share / f64::from(modulus);
        let mut missed = 0;
        // The last to wait is the first to run.
        for value in (0..modulus).rev() {
            let mut registers = run.registers;
            let mut goes_on = registers.write(into, &value.to_ne_bytes());
            if let Some(InstalledExpr::Known(Expr::Match(compare @ Match::Cmp { .. }))) = next {
                goes_on = goes_on && registers.meet(compare);
            }
            if !goes_on {
                missed += 1;
                continue;
            }
            let mut drawn = Run { registers, ..run.clone() };
            drawn.traveller.share = share;
            drawn.meet(&place.shown, format!("numgen random mod {modulus} gives {value}"));
            waiting.push(drawn);
        }
        run.traveller.share = share * f64::from(missed);
        if missed == 0 { Outcome::Gone } else { Outcome::Miss }
    }

    fn load(&mut self, place: &Place, run: &mut Run, load: &Load) -> Outcome {
        let traveller = &run.traveller;
        match load {
            Load::Payload { base, offset, len, into } => match traveller.payload(*base, *offset, *len) {
                Some(bytes) => run.written(*into, &bytes),
                None => self.not_known(place),
            },
            Load::Meta { key, into } => match key {
                MetaKey::Mark => run.written(*into, &traveller.mark.to_ne_bytes()),
                MetaKey::NfProto if traveller.destination.is_ipv4() => run.written(*into, &[MetaKey::IPV4]),
                MetaKey::NfProto => run.written(*into, &[MetaKey::IPV6]),
                MetaKey::L4Proto => run.written(*into, &[traveller.protocol()]),
                MetaKey::IifName => {
                    let mut name = traveller.interface.as_bytes().to_vec();
                    name.resize(INTERFACE_NAME, 0);
                    run.written(*into, &name)
                }
            },
            Load::Ct { key, into } => run.written(*into, &traveller.connection(*key)),
            Load::CtTuple { key, .. } if !traveller.has_in_tuple(*key) => Outcome::Miss,
            Load::CtTuple { key, direction, into } => match traveller.tuple(*key, *direction) {
                Some(bytes) => run.written(*into, &bytes),
                None => self.not_known(place),
            },
            Load::FibType { of, into } => {
                let address = match of {
                    FibFlags::Saddr => traveller.source(),
                    FibFlags::Daddr => traveller.destination.ip(),
                };
                /// `RTN_UNICAST`
                const ELSEWHERE: u32 = 1;
                let kind = if self.around.is_local(address) { Load::LOCAL } else { ELSEWHERE };
                run.written(*into, &kind.to_ne_bytes())
            }
            Load::Immediate { value, into } => run.written(*into, value),
            Load::Random { .. } => Outcome::Miss,
        }
    }

    fn ask(&mut self, place: &Place, run: &mut Run, access: &SetAccess) -> anyhow::Result<Outcome> {
        let (name, key) = match access {
            SetAccess::Contains { set, key, .. } | SetAccess::Dynset { set, key, .. } => (set, key),
            SetAccess::Lookup { map, key, .. } | SetAccess::VerdictLookup { map, key } => (map, key),
        };
        let Some(shape) = self.tables[place.table].shape(name) else {
            self.note_unknown(format!(
                "chain {} asks a set {name} that cannot be read: its rule is taken not to match",
                place.shown
            ));
            return Ok(Outcome::Miss);
        };
        let Some(key) = run.registers.read(*key, shape.key_len).map(<[u8]>::to_vec) else {
            return Ok(Outcome::Miss);
        };
        if let SetAccess::Dynset { set, op, data, .. } = access {
            run.effect(place, change(&shape, set, *op, &key, data.and_then(|data| value(run, &shape, data))));
            return Ok(Outcome::Go);
        }
        let found = self.tables[place.table].find(name, &key)?;
        Ok(answer(place, run, access, (&shape, &key), found))
    }
}

fn compare(run: &mut Run, matching: &Match) -> Outcome {
    if run.registers.meet(matching) { Outcome::Go } else { Outcome::Miss }
}

/// What comes of what a set was found to hold.
fn answer(
    place: &Place,
    run: &mut Run,
    access: &SetAccess,
    (shape, key): (&Shape, &[u8]),
    found: Option<Element>,
) -> Outcome {
    match (access, found) {
        (SetAccess::Contains { set, inverted: true, .. }, None) => {
            let key = words::fields(shape.key.as_deref(), key);
            run.meet(words::place(shape, set), format!("{key} is not in it"));
            Outcome::Go
        }
        (SetAccess::Contains { set, inverted: false, .. }, Some(element)) => {
            run.meet(words::place(shape, set), words::element(shape, &element));
            Outcome::Go
        }
        (SetAccess::Lookup { map, into, .. }, Some(element)) => {
            run.meet(words::place(shape, map), words::element(shape, &element));
            match &element.data {
                Data::Value(value) => run.written(*into, value),
                Data::Verdict(_) | Data::None => Outcome::Miss,
            }
        }
        (SetAccess::VerdictLookup { map, .. }, Some(element)) => {
            run.note_mark(place);
            run.meet(words::place(shape, map), words::element(shape, &element));
            match element.data {
                Data::Verdict(Verdict::Continue) => Outcome::Go,
                Data::Verdict(verdict) => Outcome::Ends(Fate::Decided(verdict)),
                Data::Value(_) | Data::None => Outcome::Miss,
            }
        }
        _ => Outcome::Miss,
    }
}

fn act(place: &Place, run: &mut Run, action: &Action) -> Outcome {
    match action {
        Action::Counter | Action::Log { .. } => Outcome::Go,
        Action::SetMark { from } | Action::SetConnectionMark { from } => {
            let Some(mark) = run.registers.number(*from) else { return Outcome::Miss };
            if matches!(action, Action::SetMark { .. }) {
                run.traveller.mark = mark;
            } else if run.traveller.connection_mark != mark {
                run.traveller.connection_mark = mark;
                run.effect(place, format!("ct mark set {mark:#010x}"));
            }
            Outcome::Go
        }
        Action::Verdict(Verdict::Continue) => Outcome::Go,
        Action::Verdict(verdict) => {
            run.effect(place, verdict.to_string());
            Outcome::Ends(Fate::Decided(verdict.clone()))
        }
        Action::Reject(with) => reject(place, run, *with),
        Action::Masquerade | Action::MasqueradeKeepingPorts => {
            (run.traveller.masquerade, run.traveller.source_settled) = (true, true);
            let words = match action {
                Action::Masquerade => "masquerade fully-random",
                _ => "masquerade",
            };
            run.effect(place, words.to_owned());
            Outcome::Ends(Fate::Decided(Verdict::Accept))
        }
        Action::Nat { kind, address, port, .. } => translate(place, run, *kind, *address, *port),
    }
}

/// Answers with an error. Only TCP can be answered with a reset: what is of another protocol is just dropped.
fn reject(place: &Place, run: &mut Run, with: RejectWith) -> Outcome {
    let is_answered = with != RejectWith::TcpReset || run.traveller.protocol() == Protocol::Tcp.number();
    let words = match with {
        RejectWith::TcpReset => "reject with tcp reset",
        RejectWith::PortUnreachable | RejectWith::PortUnreachable6 => "reject",
    };
    run.effect(place, words.to_owned());
    Outcome::Ends(if is_answered { Fate::Rejected } else { Fate::Decided(Verdict::Drop) })
}

/// Rewrites an address, which lets the packet pass.
fn translate(
    place: &Place,
    run: &mut Run,
    kind: NatKind,
    address: Register,
    port: Option<Register>,
) -> Outcome {
    let Some(to) = read_address(run, address) else { return Outcome::Miss };
    let port = port.and_then(|port| read_port(run, port));
    match kind {
        NatKind::Snat => {
            (run.traveller.masquerade, run.traveller.source_settled) = (true, true);
            run.effect(place, format!("snat to {to}"));
        }
        NatKind::Dnat => {
            let to = SocketAddr::new(to, port.unwrap_or(run.traveller.destination.port()));
            (run.traveller.translated, run.traveller.destination_settled) = (true, true);
            run.traveller.destination = to;
            run.effect(place, format!("dnat to {to}"));
        }
    }
    Outcome::Ends(Fate::Decided(Verdict::Accept))
}

fn read_address(run: &Run, at: Register) -> Option<IpAddr> {
    if run.traveller.source().is_ipv4() {
        Some(<[u8; 4]>::try_from(run.registers.read(at, 4)?).ok()?.into())
    } else {
        Some(<[u8; 16]>::try_from(run.registers.read(at, 16)?).ok()?.into())
    }
}

fn read_port(run: &Run, at: Register) -> Option<u16> {
    Some(u16::from_be_bytes(run.registers.read(at, 2)?.try_into().ok()?))
}

/// The value that a rule puts into a map, in words.
fn value(run: &Run, shape: &Shape, at: Register) -> Option<String> {
    let fields = shape.value.as_deref()?;
    let len = fields.iter().map(|field| field.padded()).sum();
    Some(words::fields(Some(fields), run.registers.read(at, len)?))
}

/// What a rule does to an element. It is not done here: no rule asks for it again for the same packet.
fn change(shape: &Shape, set: &str, op: DynsetOp, key: &[u8], value: Option<String>) -> String {
    let verb = match op {
        DynsetOp::Update => "update",
        DynsetOp::Delete => "delete",
    };
    let key = words::fields(shape.key.as_deref(), key);
    let value = value.map(|value| format!(" : {value}")).unwrap_or_default();
    format!("{verb} @{set} {{ {key}{value} }}")
}
