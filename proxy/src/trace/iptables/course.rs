//! The way through the rules: hook by hook, table by table, rule by rule, and each of several ways that chance leaves
//! open.

use anyhow::{Result, bail};

use super::super::model::{End, Walk, Way};
use super::answer::{Answer, World};
use super::rule::Rule;
use super::tables::{Chain, Table, Tables};
use super::target::Target;
use super::traveller::{Headers, Traveller};

/// Chains that lead into each other. The kernel allows fewer.
const DEEPEST: usize = 64;
/// Ways that a packet may take, beyond which chance is not looked into any more.
const MOST_WAYS: usize = 10_000;
/// Rules that are looked at, over all ways.
const MOST_RULES: u32 = 200_000_000;

/// Where the kernel calls the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trace) enum Hook {
    /// A packet came in.
    Prerouting,
    /// It is for this node.
    Input,
    /// It is not.
    Forward,
    /// This node sends one.
    Output,
    /// A packet goes out.
    Postrouting,
}

impl Hook {
    fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// The tables that have chains there, in their order.
    fn tables(self) -> &'static [Table] {
        match self {
            Self::Prerouting => &[Table::Raw, Table::Mangle, Table::Nat],
            Self::Input => &[Table::Mangle, Table::Filter, Table::Nat],
            Self::Forward => &[Table::Mangle, Table::Filter],
            Self::Output => &[Table::Raw, Table::Mangle, Table::Nat, Table::Filter],
            Self::Postrouting => &[Table::Mangle, Table::Nat],
        }
    }

    /// Whether it is known by which interface a packet will leave.
    fn leaves(self) -> bool {
        !matches!(self, Self::Prerouting | Self::Input)
    }

    /// Whether there is nothing left to translate.
    fn is_done(self, packet: &Headers) -> bool {
        !packet.tracked
            || match self {
                Self::Prerouting | Self::Output => packet.translated,
                _ => packet.masqueraded,
            }
    }
}

/// Takes packets through the rules of all back ends.
pub(in crate::trace) struct Course<'a> {
    tables: &'a [Tables],
    world: World<'a>,
    unknown: Vec<String>,
    rules: u32,
    ways: usize,
}

/// A table of a back end, at a hook.
#[derive(Clone, Copy)]
struct Place<'a> {
    of: &'a Tables,
    table: Table,
    hook: Hook,
}

/// A chain that is being gone through.
#[derive(Clone)]
struct Frame<'a> {
    chain: &'a Chain,
    at: usize,
    /// The step that led here, and how much had happened by then.
    began: Option<(usize, usize)>,
}

/// A packet inside of a table.
#[derive(Clone)]
struct Walker<'a> {
    traveller: Traveller,
    frames: Vec<Frame<'a>>,
    /// How often a rule did something with it, other than to lead it to a chain.
    happened: usize,
}

impl<'a> Course<'a> {
    pub(in crate::trace) fn new(tables: &'a [Tables], world: World<'a>) -> Self {
        let unknown = tables.iter().flat_map(|tables| tables.foreign.clone()).collect();
        Self { tables, world, unknown, rules: 0, ways: 1 }
    }

    /// Takes packets through all tables of a hook.
    pub(in crate::trace) fn pass(&mut self, party: Vec<Traveller>, hook: Hook) -> Result<Vec<Traveller>> {
        self.pass_some(party, hook, hook.tables())
    }

    /// Takes packets through some tables of a hook, in this order.
    pub(in crate::trace) fn pass_some(
        &mut self,
        mut party: Vec<Traveller>,
        hook: Hook,
        tables: &[Table],
    ) -> Result<Vec<Traveller>> {
        for table in tables {
            for of in self.tables {
                let mut passed = Vec::with_capacity(party.len());
                for traveller in party {
                    self.pass_one(traveller, Place { of, table: *table, hook }, &mut passed)?;
                }
                party = passed;
            }
        }
        Ok(party)
    }

    /// Those that are for this node now, and the others.
    pub(in crate::trace) fn split(&self, party: Vec<Traveller>) -> (Vec<Traveller>, Vec<Traveller>) {
        let here = |one: &Traveller| self.world.around.is_local(one.headers.destination.ip());
        party.into_iter().partition(here)
    }

    /// What came of it all. Ways with one end are one, which is gone as the most probable of them.
    pub(in crate::trace) fn finish(self, party: Vec<Traveller>) -> Walk {
        let mut ways: Vec<(f64, Way)> = Vec::new();
        for way in party.into_iter().map(Traveller::arrived) {
            match ways.iter_mut().find(|(_, known)| known.end == way.end) {
                Some((most, known)) => {
                    let share = known.share + way.share;
                    if way.share > *most {
                        (*most, *known) = (way.share, way);
                    }
                    known.share = share;
                }
                None => ways.push((way.share, way)),
            }
        }
        Walk { ways: ways.into_iter().map(|(_, way)| way).collect(), unknown: self.unknown }
    }

    fn pass_one(
        &mut self,
        traveller: Traveller,
        place: Place<'a>,
        passed: &mut Vec<Traveller>,
    ) -> Result<()> {
        let is_done = place.table == Table::Nat && place.hook.is_done(&traveller.headers);
        let base = place.of.chain(place.table, place.hook.chain());
        let Some(chain) = base.filter(|_| !is_done && traveller.end.is_none()) else {
            passed.push(traveller);
            return Ok(());
        };
        let mut open =
            vec![Walker { traveller, frames: vec![Frame { chain, at: 0, began: None }], happened: 0 }];
        while let Some(walker) = open.pop() {
            passed.push(self.follow(walker, place, &mut open)?);
        }
        Ok(())
    }

    /// Follows one way through a table. Others that branch off are left for later.
    fn follow(
        &mut self,
        mut walker: Walker<'a>,
        place: Place<'a>,
        others: &mut Vec<Walker<'a>>,
    ) -> Result<Traveller> {
        while let Some((chain, rule, text)) = walker.next_rule(place) {
            if rule.target == Target::Next {
                continue;
            }
            self.rules += 1;
            if self.rules > MOST_RULES {
                bail!(
                    "the rules of iptables lead on and on, more than {MOST_RULES} of them: look for chains that lead to many chains"
                );
            }
            let headers = &walker.traveller.headers;
            match self.world.answer(&rule.matches, headers, place.hook.leaves())? {
                Answer::Unknown(what) => {
                    self.tell(place, chain, text, &what);
                    continue;
                }
                Answer::Chance(chance) if chance <= 0.0 => continue,
                Answer::Chance(chance) if chance < 1.0 && !self.fork(&mut walker, chance, others) => continue,
                Answer::Chance(_) => {}
            }
            if !self.act(&mut walker, place, chain, rule, text) {
                break;
            }
        }
        Ok(walker.traveller)
    }

    /// Goes both ways, or the more probable one where there are too many. Says whether the rule matches here.
    fn fork(&mut self, walker: &mut Walker<'a>, chance: f64, others: &mut Vec<Walker<'a>>) -> bool {
        if self.ways >= MOST_WAYS {
            let told = format!(
                "There are more than {MOST_WAYS} ways: of the others, only the more probable were gone."
            );
            self.tell_once(told);
            return chance >= 0.5;
        }
        self.ways += 1;
        let mut other = walker.clone();
        other.traveller.share *= 1.0 - chance;
        others.push(other);
        walker.traveller.share *= chance;
        true
    }

    /// Does what a rule does with its packets. Says whether there is another rule to look at in this table.
    fn act(
        &mut self,
        walker: &mut Walker<'a>,
        place: Place<'a>,
        chain: &Chain,
        rule: &Rule,
        text: &str,
    ) -> bool {
        let here = place.table.place(&chain.name);
        let traveller = &mut walker.traveller;
        let (end, goes_on) = match &rule.target {
            Target::Return => {
                walker.leave(place);
                return true;
            }
            Target::Jump(to) | Target::Goto(to) => match place.of.chain(place.table, to) {
                Some(target) if walker.frames.len() < DEEPEST => {
                    walker.enter(target, matches!(rule.target, Target::Goto(_)), here, text);
                    return true;
                }
                _ => {
                    self.tell(place, chain, text, &format!("-j {to}"));
                    return true;
                }
            },
            Target::Unknown(what) => {
                self.tell(place, chain, text, what);
                return true;
            }
            Target::Drop => (Some(End::Dropped), false),
            Target::Reject => (Some(End::Rejected), false),
            Target::Accept => (None, false),
            target => {
                traveller.change(target);
                (None, !matches!(target, Target::Dnat(_) | Target::Masquerade))
            }
        };
        traveller.step(here, text);
        traveller.end = end;
        walker.happened += 1;
        goes_on
    }

    fn tell(&mut self, place: Place<'_>, chain: &Chain, text: &str, what: &str) {
        let here = place.table.place(&chain.name);
        self.tell_once(format!(
            "{here}: a rule is not understood ({what}), and is taken not to match: {text}"
        ));
    }

    fn tell_once(&mut self, sentence: String) {
        if !self.unknown.contains(&sentence) {
            self.unknown.push(sentence);
        }
    }
}

impl<'a> Walker<'a> {
    /// The rule that is next, with its chain and its text; none when there is no more in this table.
    fn next_rule(&mut self, place: Place<'a>) -> Option<(&'a Chain, &'a Rule, &'a str)> {
        loop {
            let frame = self.frames.last_mut()?;
            let chain = frame.chain;
            if let Some((rule, text)) = chain.rule(frame.at) {
                frame.at += 1;
                return Some((chain, rule, text));
            }
            self.leave(place);
        }
    }

    fn enter(&mut self, chain: &'a Chain, for_good: bool, from: String, text: &str) {
        let began = Some((self.traveller.steps.len(), self.happened));
        self.traveller.step(from, text);
        match self.frames.last_mut().filter(|_| for_good) {
            Some(frame) => (frame.chain, frame.at) = (chain, 0),
            None => self.frames.push(Frame { chain, at: 0, began }),
        }
    }

    /// Leaves a chain. If nothing happened there, nobody needs to know that it was come to. At the end of the kernel's
    /// own, its policy says what becomes of the packet.
    fn leave(&mut self, place: Place<'a>) {
        let Some(frame) = self.frames.pop() else { return };
        if let Some((began, _)) = frame.began.filter(|(_, happened)| *happened == self.happened) {
            self.traveller.steps.truncate(began);
        }
        let base = place.hook.chain();
        let policy = place.of.chain(place.table, base).and_then(|chain| chain.policy.as_deref());
        if self.frames.is_empty() && policy == Some("DROP") {
            self.traveller.step(place.table.place(base), "policy DROP");
            self.traveller.end = Some(End::Dropped);
        }
    }
}
