//! How rules tell and write in connections' marks that they were allowed, and when.

use std::time::Instant;

use crate::generations::Generations;
use crate::settings::{Established, Settings};

/// What matches connections with a mark.
const MARKED: &str = "-m connmark --mark ";
/// What gives them one.
const MARKING: &str = "-j CONNMARK --set-xmark ";

/// The rules that let pass what needs no judgement.
pub(super) fn accepting(generations: &Generations, settings: &Settings) -> Vec<String> {
    let mask = settings.mark_mask;
    if settings.established == Established::Keep {
        return vec![format!("-m connmark ! --mark {} -j RETURN", masked(0, mask))];
    }
    // Most bear the last one.
    let alive = generations.alive().into_iter().rev();
    alive.map(|mark| format!("{MARKED}{} -j RETURN", masked(mark, mask))).collect()
}

/// The rule that marks a connection as allowed.
pub(super) fn marking(generations: &Generations, settings: &Settings) -> String {
    format!("{MARKING}{:#x}/{:#x}", generations.mark(), settings.mark_mask)
}

/// What such rules say that are in force. Since when earlier generations drain is not known: they get all the time anew.
pub(super) fn read(rules: &[String], settings: &Settings, now: Instant) -> Option<Generations> {
    let mask = settings.mark_mask;
    let current = rules.iter().find_map(|rule| number(rule, MARKING, mask))?;
    let generations = Generations::only(mask, current);
    let Established::Drain(time) = settings.established else { return Some(generations) };
    let earlier = rules.iter().rev().filter_map(|rule| number(rule, MARKED, mask));
    Some(earlier.fold(generations, |all, earlier| all.with_draining(earlier, now, time)))
}

/// As `iptables-save` prints it: a mask of all bits goes without saying.
fn masked(value: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{value:#x}") } else { format!("{value:#x}/{mask:#x}") }
}

/// The generation in a rule's mark that follows some words, if it is of this mask.
fn number(rule: &str, after: &str, mask: u32) -> Option<u32> {
    let (_, text) = rule.split_once(after)?;
    let text = text.split(' ').next()?;
    let (value, found) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    let hex = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let value = hex(value).filter(|_| hex(found) == Some(mask))?;
    Some(Generations::number(mask, value)).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::MARK_MASK;

    fn settings(established: Established) -> Settings {
        Settings { established, mark_mask: 0x00f0, ..Settings::default() }
    }

    fn rules(generations: &Generations, settings: &Settings) -> Vec<String> {
        let mut rules = accepting(generations, settings);
        rules.push(marking(generations, settings));
        rules
    }

    #[test]
    fn generations_are_read_back() {
        let now = Instant::now();
        let settings = settings(Established::Drain(Duration::from_secs(9)));
        let mut generations = Generations::only(settings.mark_mask, 1);
        generations.advance(settings.established, now);
        generations.advance(settings.established, now);
        let rules = rules(&generations, &settings);
        assert_eq!(
            rules,
            [
                "-m connmark --mark 0x30/0xf0 -j RETURN",
                "-m connmark --mark 0x20/0xf0 -j RETURN",
                "-m connmark --mark 0x10/0xf0 -j RETURN",
                "-j CONNMARK --set-xmark 0x30/0xf0",
            ]
        );
        assert_eq!(read(&rules, &settings, now), Some(generations));
        let cut = Settings { established: Established::Cut, ..settings.clone() };
        assert_eq!(read(&rules, &cut, now), Some(Generations::only(0xf0, 3)));
        let other = Settings { mark_mask: MARK_MASK, ..settings };
        assert_eq!(read(&rules, &other, now), None);
    }

    #[test]
    fn whatever_was_allowed_goes_on_when_it_may() {
        let settings = settings(Established::Keep);
        let generations = Generations::only(settings.mark_mask, 1);
        assert_eq!(accepting(&generations, &settings), ["-m connmark ! --mark 0x0/0xf0 -j RETURN"]);
    }

    #[test]
    fn a_mask_of_all_bits_goes_without_saying() {
        let settings = Settings { mark_mask: u32::MAX, ..Settings::default() };
        let generations = Generations::only(u32::MAX, 7);
        let rules = rules(&generations, &settings);
        assert_eq!(rules, ["-m connmark --mark 0x7 -j RETURN", "-j CONNMARK --set-xmark 0x7/0xffffffff"]);
        assert_eq!(read(&rules, &settings, Instant::now()), Some(generations));
    }
}
