//! Everything that a program asks of a family: its chains and sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use endpoint_cache::Family;

use super::names::{self, Way};
use super::rules::Style;
use super::sets::{self, FilledSet};
use crate::enforcer::Error;
use crate::program::{Profile, Program};

/// All that is to be, but for the chain that depends on the generation.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) chains: BTreeMap<String, Vec<String>>,
    pub(super) sets: Vec<FilledSet>,
}

impl Whole {
    /// # Errors
    /// When a set has more members than the kernel takes.
    pub(super) fn new(program: &Program, style: &Style<'_>) -> Result<Self, Error> {
        let mut whole = Self { chains: BTreeMap::new(), sets: fixed_sets(program, style.family) };
        whole.chains.extend(style.fixed().into_iter().map(|(chain, rules)| (chain.to_owned(), rules)));
        let mut subjects: BTreeMap<&Profile, BTreeSet<IpAddr>> = BTreeMap::new();
        for ((_, address), profile) in &program.subjects {
            subjects.entry(profile).or_default().insert(*address);
        }
        for profile in program.profiles.keys() {
            let pods = subjects.remove(&**profile).unwrap_or_default();
            whole.sets.push(FilledSet::subjects(profile, pods, style.family));
            for way in Way::BOTH {
                whole.chains.insert(names::profile_chain(profile, way), style.profile(profile, way));
                let dispatch = whole.chains.entry(way.dispatch().to_owned()).or_default();
                dispatch.push(style.dispatch(profile, way));
            }
        }
        for (key, clauses) in &program.policies {
            for way in Way::BOTH {
                whole.chains.insert(names::policy_chain(key, way), style.policy(key, clauses, way));
            }
        }
        for key in program.sets.keys().filter(|key| sets::exists(key, style.family)) {
            whole.sets.push(FilledSet::members(key, program, style.family)?);
        }
        Ok(whole)
    }
}

fn fixed_sets(program: &Program, family: Family) -> Vec<FilledSet> {
    vec![FilledSet::pods(program, family), FilledSet::ranges(&program.ranges, family)]
}
