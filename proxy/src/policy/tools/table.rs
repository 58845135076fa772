//! What the tools find, for people.

use std::fmt::Write as _;

use comfy_table::{Cell, Color};

use super::check::Check;
use super::judge::{EndReport, Judgement};
use super::pairs::Effect;
use super::policies::Fate;
use super::what_if::{Effects, WhatIf};
use crate::output::{Look, finish, number, plain, table};

/// Rows that are shown, but for `-o wide`.
const ROWS: usize = 20;

pub(super) fn check(check: &Check, look: Look) -> String {
    let all: Vec<String> = check.connections.iter().map(|connection| judgement(connection, look)).collect();
    all.join("\n")
}

fn judgement(judgement: &Judgement, look: Look) -> String {
    let mut text = String::new();
    let to = format!("{}, port {}/{}", end(&judgement.to), judgement.port, judgement.protocol);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "from     {}\nto       {to}", end(&judgement.from));
    let _ = writeln!(text, "verdict  {}\n", painted(judgement.allowed, look));
    let mut sides = table(&["side", "verdict", "because"]);
    for side in &judgement.sides {
        sides.add_row([Cell::new(side.direction.as_str()), word(side.allowed), Cell::new(plain(&side.says))]);
    }
    text += &(finish(sides, look.colour) + "\n");
    for note in &judgement.notes {
        let _ = writeln!(text, "- {}", plain(note));
    }
    text
}

fn end(end: &EndReport) -> String {
    match &end.pod {
        Some(pod) => format!("{} ({})", plain(pod), end.address),
        None => end.address.to_string(),
    }
}

fn words(allowed: bool) -> (&'static str, Color) {
    if allowed { ("allowed", Color::Green) } else { ("denied", Color::Red) }
}

fn word(allowed: bool) -> Cell {
    let (word, colour) = words(allowed);
    Cell::new(word).fg(colour)
}

fn painted(allowed: bool, look: Look) -> String {
    let code = if allowed { 32 } else { 31 };
    let (word, _) = words(allowed);
    if look.colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}

pub(super) fn what_if(answer: &WhatIf, look: Look) -> String {
    let mut text = String::new();
    let mut policies =
        table(&["policy", "", "connections denied", "allowed", "pairs of pods denied", "allowed"]);
    for (name, fate) in &answer.policies {
        let fate = match fate {
            Fate::Added => "added",
            Fate::Changed => "changed",
            Fate::Deleted => "deleted",
            Fate::Same => "as it is",
        };
        let counts = answer.summary.get(name).copied().unwrap_or_default();
        policies.add_row([
            Cell::new(plain(name)),
            Cell::new(fate),
            number(counts.connections_denied),
            number(counts.connections_allowed),
            number(counts.pairs_denied),
            number(counts.pairs_allowed),
        ]);
    }
    text += &(finish(policies, look.colour) + "\n");
    for problem in &answer.problems {
        let _ = writeln!(text, "! {}", plain(problem));
    }
    for note in &answer.notes {
        let _ = writeln!(text, "- {}", plain(note));
    }
    text += &of_effects("connections under way", &answer.connections, look);
    text += &of_effects("pairs of pods", &answer.pairs, look);
    text
}

fn of_effects(what: &str, effects: &Effects, look: Look) -> String {
    if effects.list.is_empty() {
        return format!("\n{what}: nothing changes\n");
    }
    let shown = if look.wide { effects.list.len() } else { effects.list.len().min(ROWS) };
    let mut rows = table(&["would be", "from", "to", "ports", "because"]);
    for effect in &effects.list[..shown] {
        rows.add_row(of_effect(effect));
    }
    let mut text = format!("\n{what}:\n{}\n", finish(rows, look.colour));
    let more = effects.list.len() - shown + effects.omitted;
    if more > 0 {
        let hint = if look.wide { "" } else { "; more of them with -o wide" };
        let _ = writeln!(text, "and {more} more{hint}");
    }
    text
}

fn of_effect(effect: &Effect) -> [Cell; 5] {
    let name = |end: &EndReport| plain(&end.pod.clone().unwrap_or_else(|| end.address.to_string()));
    [
        word(effect.allowed),
        Cell::new(name(&effect.from)),
        Cell::new(name(&effect.to)),
        Cell::new(plain(&effect.ports.join(", "))),
        Cell::new(plain(&effect.says)),
    ]
}
