//! What one family's table holds, written whole or as a change. Pure.

use std::net::IpAddr;

use endpoint_cache::Family;
use kernel::nft::{Batch, Content, Element};

use super::elements;
use super::layout::{self, Fixed, chain, policy_chain, profile_chain, set_name};
use super::rules::Style;
use crate::policy::Direction;
use crate::program::{Delta, Program, RangesChange, SetChange};

/// What the table is for, as `nft list` shows it.
const COMMENT: &str = "NetworkPolicies, by pointsman";

/// What a program asks of the table of a family. `alive` are the marks of connections that need not be judged.
pub(super) fn whole(program: &Program, style: &Style<'_>, alive: &[u32]) -> Content {
    let family = style.family;
    let here = |address: &IpAddr| Family::of(*address) == family;
    let pods = || program.pods.keys().copied().filter(here);
    let subjects = |wanted: Direction| {
        let of = program.subjects.iter().filter(move |((direction, _), _)| *direction == wanted);
        of.filter(|((_, address), _)| here(address)).map(|((_, address), profile)| (*address, profile))
    };
    let elements_of = |fixed| match fixed {
        Fixed::Generations => alive.iter().map(|mark| elements::generation(*mark)).collect(),
        Fixed::Pods => pods().map(Element::of_address).collect(),
        Fixed::Itself => pods().map(elements::itself).collect(),
        Fixed::Ranges => elements::ranges(&program.ranges, family),
        Fixed::Isolated(of) => subjects(of).map(|(at, _)| Element::of_address(at)).collect(),
        Fixed::Subjects(of) => subjects(of).map(|(at, to)| elements::subject(at, to)).collect(),
    };
    let fixed = Fixed::ALL.map(|fixed| (fixed.definition(family), elements_of(fixed)));
    let shared = program
        .sets
        .iter()
        .map(|(key, members)| (layout::set(key, family), elements::of_set(key, members.keys(), family)));
    let policies =
        program.policies.iter().map(|(key, clauses)| (policy_chain(key), style.policy(key, clauses)));
    let profiles = program.profiles.keys().map(|profile| (profile_chain(profile), style.profile(profile)));
    let always = style.chains().into_iter().map(|(name, rules)| (name.to_owned(), rules));
    let chains = always.chain(policies).chain(profiles).map(|(name, rules)| (chain(&name), rules));
    Content { comment: COMMENT, sets: shared.chain(fixed).collect(), chains: chains.collect() }
}

/// Writes what changed, of a table that holds what the program was before.
pub(super) fn change(batch: &mut Batch, program: &Program, delta: &Delta, style: &Style<'_>) {
    add_to_sets(batch, program, delta, style.family);
    write_chains(batch, delta, style);
    move_subjects(batch, delta, style.family);
    move_pods(batch, delta, style.family);
    remove_chains_and_sets(batch, delta);
}

fn add_to_sets(batch: &mut Batch, program: &Program, delta: &Delta, family: Family) {
    for (key, change) in &delta.sets {
        let name = set_name(key);
        match change {
            SetChange::New => {
                batch.add_set(&layout::set(key, family));
                let members = program.sets.get(key).into_iter().flat_map(|members| members.keys());
                batch.add_elements(&name, &elements::of_set(key, members, family));
            }
            SetChange::Members { added, removed } => {
                batch.delete_elements(&name, &elements::of_set(key, removed, family));
                batch.add_elements(&name, &elements::of_set(key, added, family));
            }
            SetChange::Gone => {}
        }
    }
}

fn write_chains(batch: &mut Batch, delta: &Delta, style: &Style<'_>) {
    for (key, change) in &delta.policies {
        let name = policy_chain(key);
        if change.before.is_some() {
            batch.flush_chain(&name);
        }
        if let Some(clauses) = &change.after {
            batch.add_chain(&chain(&name));
            style.policy(key, clauses).iter().for_each(|rule| batch.add_rule(&name, rule));
        }
    }
    for (profile, comes) in &delta.profiles {
        if *comes {
            let name = profile_chain(profile);
            batch.add_chain(&chain(&name));
            style.profile(profile).iter().for_each(|rule| batch.add_rule(&name, rule));
        }
    }
}

fn move_subjects(batch: &mut Batch, delta: &Delta, family: Family) {
    for ((direction, address), change) in &delta.subjects {
        if Family::of(*address) != family {
            continue;
        }
        let map = Fixed::Subjects(*direction).name();
        if let Some(before) = &change.before {
            batch.delete_elements(map, &[elements::subject(*address, before)]);
        }
        if let Some(after) = &change.after {
            batch.add_elements(map, &[elements::subject(*address, after)]);
        }
    }
}

fn move_pods(batch: &mut Batch, delta: &Delta, family: Family) {
    let put = |batch: &mut Batch, set: Fixed, element: Element, (was, is): (bool, bool)| match (was, is) {
        (true, false) => batch.delete_elements(set.name(), &[element]),
        (false, true) => batch.add_elements(set.name(), &[element]),
        _ => {}
    };
    for (address, change) in delta.pods.iter().filter(|(address, _)| Family::of(**address) == family) {
        let moved = (change.before.is_some(), change.after.is_some());
        put(batch, Fixed::Pods, Element::of_address(*address), moved);
        put(batch, Fixed::Itself, elements::itself(*address), moved);
    }
    for ((direction, address), change) in &delta.subjects {
        if Family::of(*address) == family {
            let moved = (change.before.is_some(), change.after.is_some());
            put(batch, Fixed::Isolated(*direction), Element::of_address(*address), moved);
        }
    }
    if let Some(RangesChange { before, after }) = &delta.ranges {
        let [before, after] = [before, after].map(|ranges| elements::ranges(ranges, family));
        batch.replace_elements(Fixed::Ranges.name(), &before, &after);
    }
}

/// What nothing refers to any longer goes: profiles, then the policies that they asked, then the sets of those.
fn remove_chains_and_sets(batch: &mut Batch, delta: &Delta) {
    for (profile, comes) in &delta.profiles {
        if !comes {
            batch.delete_chain(&profile_chain(profile));
        }
    }
    for (key, change) in &delta.policies {
        if change.after.is_none() {
            batch.delete_chain(&policy_chain(key));
        }
    }
    for (key, change) in &delta.sets {
        if *change == SetChange::Gone {
            batch.delete_set(&set_name(key));
        }
    }
}

/// Connections that are allowed from now on bear another mark, and those with `dead` marks are judged anew.
pub(super) fn advance(batch: &mut Batch, style: &Style<'_>, dead: &[u32]) {
    for (chain, rules) in [(chain::ALLOWED, style.allowed()), (chain::FORWARD, style.forward())] {
        batch.flush_chain(chain);
        rules.iter().for_each(|rule| batch.add_rule(chain, rule));
    }
    bury(batch, dead);
    batch.add_elements(Fixed::Generations.name(), &[elements::generation(style.mark)]);
}

/// Connections with these marks are judged anew.
pub(super) fn bury(batch: &mut Batch, dead: &[u32]) {
    let dead: Vec<Element> = dead.iter().map(|mark| elements::generation(*mark)).collect();
    batch.delete_elements(Fixed::Generations.name(), &dead);
}
