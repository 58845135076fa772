//! What is to be done, in an order in which nothing is ever allowed that neither was nor will be: what is allowed no
//! longer goes first, what is allowed newly comes last.

use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::ipset::{Edit, Entry};

use super::names::{self, Way};
use super::rules::Style;
use super::script::Script;
use super::sets::{self, FilledSet, Purpose};
use crate::enforcer::Error;
use crate::program::{Delta, Profile, Program, RangesChange, SetChange};

/// The steps, in their order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Sets that no rule refers to yet.
    pub(super) new_sets: Vec<FilledSet>,
    /// What isolates more pods, or allows less.
    pub(super) narrowing: Vec<Edit>,
    /// Chains and rules.
    pub(super) script: Script,
    /// What isolates fewer pods, or allows more.
    pub(super) widening: Vec<Edit>,
    /// Sets that no rule refers to any more.
    pub(super) old_sets: Vec<String>,
}

impl Plan {
    /// Whether connections may be judged otherwise. Sets without use do not matter: others may hold on to them.
    pub(super) fn changes_judgement(&self) -> bool {
        let Self { new_sets, narrowing, script, widening, old_sets: _ } = self;
        !(new_sets.is_empty() && narrowing.is_empty() && script.is_empty() && widening.is_empty())
    }

    /// Has entries come into a set or go out of it.
    pub(super) fn edit(
        &mut self,
        set: &str,
        purpose: Purpose,
        add: bool,
        entries: impl IntoIterator<Item = Entry>,
    ) {
        let set: Arc<str> = set.into();
        let edits = entries.into_iter().map(|entry| Edit { set: set.clone(), add, entry });
        match add == (purpose == Purpose::Allows) {
            true => self.widening.extend(edits),
            false => self.narrowing.extend(edits),
        }
    }

    /// What a delta asks of a family.
    ///
    /// # Errors
    /// When a set has more members than the kernel takes.
    pub(super) fn of(delta: &Delta, program: &Program, style: &Style<'_>) -> Result<Self, Error> {
        let mut plan = Self::default();
        plan.members(delta, program, style.family)?;
        plan.policies(delta, style);
        plan.profiles(delta, style);
        plan.subjects(delta, style.family);
        plan.pods(delta, style.family);
        if let Some(RangesChange { before, after }) = &delta.ranges {
            let entries = |ranges: &[IpNet]| sets::range_entries(ranges, style.family);
            let (before, after) = (entries(before), entries(after));
            let set = names::ranges_set(style.family);
            plan.edit(&set, Purpose::Isolates, true, after.difference(&before).copied());
            plan.edit(&set, Purpose::Isolates, false, before.difference(&after).copied());
        }
        Ok(plan)
    }

    fn members(&mut self, delta: &Delta, program: &Program, family: Family) -> Result<(), Error> {
        for (key, change) in delta.sets.iter().filter(|(key, _)| sets::exists(key, family)) {
            let name = names::members_set(key, family);
            match change {
                SetChange::New => self.new_sets.push(FilledSet::members(key, program, family)?),
                SetChange::Members { added, removed } => {
                    sets::check_size(key, program)?;
                    let entries = |member| sets::entries(member, family);
                    self.edit(&name, Purpose::Allows, true, added.iter().flat_map(entries));
                    self.edit(&name, Purpose::Allows, false, removed.iter().flat_map(entries));
                }
                SetChange::Gone => self.old_sets.push(name),
            }
        }
        Ok(())
    }

    fn policies(&mut self, delta: &Delta, style: &Style<'_>) {
        for (key, change) in &delta.policies {
            self.script.about(&format!("{} of {}", key.0.as_str(), key.1));
            for way in Way::BOTH {
                let chain = names::policy_chain(key, way);
                match &change.after {
                    Some(clauses) => self.script.write(&chain, &style.policy(key, clauses, way)),
                    None => self.script.remove(chain),
                }
            }
        }
    }

    fn profiles(&mut self, delta: &Delta, style: &Style<'_>) {
        for (profile, comes) in &delta.profiles {
            self.script.about(&profile.to_string());
            if *comes {
                let pods = newly(delta, profile);
                self.new_sets.push(FilledSet::subjects(profile, pods, style.family));
            } else {
                self.old_sets.push(names::subjects_set(profile, style.family));
            }
            for way in Way::BOTH {
                let (chain, dispatch) = (names::profile_chain(profile, way), style.dispatch(profile, way));
                if *comes {
                    self.script.write(&chain, &style.profile(profile, way));
                    self.script.append(way.dispatch(), &dispatch);
                } else {
                    self.script.delete(way.dispatch(), &dispatch);
                    self.script.remove(chain);
                }
            }
        }
    }

    /// Moves pods between the sets of profiles that stay.
    fn subjects(&mut self, delta: &Delta, family: Family) {
        for ((_, address), change) in delta.subjects.iter().filter(|((_, at), _)| Family::of(*at) == family) {
            for (profile, add) in [(&change.after, true), (&change.before, false)] {
                let stays = profile.as_ref().filter(|profile| !delta.profiles.contains_key(*profile));
                if let Some(profile) = stays {
                    let set = names::subjects_set(profile, family);
                    self.edit(&set, Purpose::Isolates, add, [Entry::Ip(*address)]);
                }
            }
        }
    }

    fn pods(&mut self, delta: &Delta, family: Family) {
        let set = names::pods_set(family);
        for (address, change) in delta.pods.iter().filter(|(at, _)| Family::of(**at) == family) {
            if change.before.is_some() != change.after.is_some() {
                self.edit(&set, Purpose::Allows, change.after.is_some(), [Entry::Ip(*address)]);
            }
        }
    }
}

/// The pods that a delta gives a profile.
fn newly<'a>(delta: &'a Delta, profile: &'a Profile) -> impl Iterator<Item = IpAddr> + 'a {
    let given = delta.subjects.iter().filter(|(_, change)| change.after.as_deref() == Some(profile));
    given.map(|((_, address), _)| *address)
}
