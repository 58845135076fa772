//! Chains: rules in order, jumps and returns.

use anyhow::ensure;
use kernel::nft::{ListedRule, Verdict};

use super::super::model::{Step, Surroundings};
use super::rule::Fate;
use super::table::Rules;
use super::traveller::{Traveller, merge};

/// Expressions beyond which an evaluation is given up. A service with ten thousand endpoints takes a tenth.
const MOST_EXPRESSIONS: usize = 10_000_000;

/// How deep jumps lead (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// The table in whose chains nothing need be said of the table.
const MAIN_TABLE: usize = 0;

/// An evaluation of rules.
pub(super) struct Evaluation<'a, T> {
    pub(super) tables: Vec<T>,
    pub(super) around: &'a dyn Surroundings,
    /// What could not be evaluated; a sentence each.
    pub(super) unknown: Vec<String>,
    evaluated: usize,
}

/// The chain that a packet is in.
pub(super) struct Place {
    /// Which of the tables.
    pub(super) table: usize,
    /// How it is told.
    pub(super) shown: String,
}

/// What becomes of a packet that went through a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainEnd {
    /// It came to the end, or returned.
    Through,
    Accepted,
    Dropped,
    Rejected,
}

impl<'a, T: Rules> Evaluation<'a, T> {
    pub(super) fn new(tables: Vec<T>, around: &'a dyn Surroundings) -> Self {
        Self { tables, around, unknown: Vec::new(), evaluated: 0 }
    }

    /// Notes what could not be evaluated.
    pub(super) fn note_unknown(&mut self, sentence: String) {
        if !self.unknown.contains(&sentence) {
            self.unknown.push(sentence);
        }
    }

    /// Counts an expression.
    pub(super) fn count(&mut self) -> anyhow::Result<()> {
        self.evaluated += 1;
        ensure!(
            self.evaluated <= MOST_EXPRESSIONS,
            "the rules of nftables are not walked to their end: after {MOST_EXPRESSIONS} expressions there are still more"
        );
        Ok(())
    }

    pub(super) fn place(&self, table: usize, chain: &str) -> Place {
        let shown = match self.tables.get(table) {
            Some(other) if table != MAIN_TABLE => format!("{} {chain}", other.name()),
            _ => chain.to_owned(),
        };
        Place { table, shown }
    }

    /// What becomes of a packet in a chain, called from `depth` others.
    pub(super) fn chain(
        &mut self,
        table: usize,
        name: &str,
        traveller: Traveller,
        depth: usize,
    ) -> anyhow::Result<Vec<(Traveller, ChainEnd)>> {
        let place = self.place(table, name);
        if depth > DEEPEST {
            self.note_unknown(format!(
                "chain {} is called from too many others and is passed over",
                place.shown
            ));
            return Ok(vec![(traveller, ChainEnd::Through)]);
        }
        let rules = self.tables[table].rules(name)?;
        let (mut here, mut ended) = (vec![traveller], Vec::new());
        for rule in rules.iter() {
            let mut onward = Vec::with_capacity(here.len());
            for traveller in here {
                self.meet(&place, rule, traveller, depth, (&mut onward, &mut ended))?;
            }
            here = merge(onward);
        }
        ended.extend(here.into_iter().map(|traveller| (traveller, ChainEnd::Through)));
        Ok(ended)
    }

    /// Shows a packet to a rule, and follows where that sends it.
    fn meet(
        &mut self,
        place: &Place,
        rule: &ListedRule,
        traveller: Traveller,
        depth: usize,
        (onward, ended): (&mut Vec<Traveller>, &mut Vec<(Traveller, ChainEnd)>),
    ) -> anyhow::Result<()> {
        let steps = traveller.steps.len();
        for (traveller, fate) in self.rule(place, rule, traveller)? {
            match fate {
                Fate::Next => onward.push(traveller),
                Fate::Rejected => ended.push((traveller, ChainEnd::Rejected)),
                Fate::Decided(Verdict::Continue) => onward.push(traveller),
                Fate::Decided(Verdict::Return) => ended.push((traveller, ChainEnd::Through)),
                Fate::Decided(Verdict::Accept) => ended.push((traveller, ChainEnd::Accepted)),
                Fate::Decided(Verdict::Drop) => ended.push((traveller, ChainEnd::Dropped)),
                Fate::Decided(Verdict::Jump(to)) => {
                    for (traveller, end) in self.called(place, &to, traveller, steps, depth)? {
                        match end {
                            ChainEnd::Through => onward.push(traveller),
                            end => ended.push((traveller, end)),
                        }
                    }
                }
                Fate::Decided(Verdict::Goto(to)) => {
                    ended.extend(self.called(place, &to, traveller, steps, depth)?);
                }
            }
        }
        Ok(())
    }

    /// What becomes of a packet in a chain that a rule leads to. If nothing does, that it was there is forgotten: before,
    /// it had met so many `steps`.
    fn called(
        &mut self,
        place: &Place,
        chain: &str,
        traveller: Traveller,
        steps: usize,
        depth: usize,
    ) -> anyhow::Result<Vec<(Traveller, ChainEnd)>> {
        let with_call = traveller.steps.len();
        let mut ended = self.chain(place.table, chain, traveller, depth + 1)?;
        for (traveller, end) in &mut ended {
            if *end == ChainEnd::Through && traveller.steps.len() == with_call {
                traveller.steps.truncate(steps);
            }
        }
        Ok(ended)
    }

    /// What becomes of a packet in a base chain, which drops what comes to its end or lets it pass.
    pub(super) fn base_chain(
        &mut self,
        table: usize,
        (name, drops): (&str, bool),
        traveller: Traveller,
    ) -> anyhow::Result<Vec<(Traveller, ChainEnd)>> {
        let place = self.place(table, name);
        let mut ended = self.chain(table, name, traveller, 0)?;
        for (traveller, end) in &mut ended {
            if *end == ChainEnd::Through && drops {
                traveller.steps.push(Step { place: place.shown.clone(), what: "policy drop".to_owned() });
                *end = ChainEnd::Dropped;
            }
        }
        Ok(ended)
    }
}
