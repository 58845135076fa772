//! What iptables' programs say when they fail, and what it means.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::Error;

/// How much of what a program said goes into an error, in characters; and of a line of the script.
const SHOWN: usize = 300;
/// `RESOURCE_PROBLEM` of iptables' `xshared.h`: the lock, no memory; of the nft back end whatever the kernel refused.
const RESOURCE_PROBLEM: i32 = 4;

/// A line of a script that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffendingLine {
    /// Which line of the script, from 1.
    pub number: usize,
    /// The line, cut after 300 characters.
    pub text: String,
    /// What the line is about: the nearest line before it that starts with `# `. None of a line `COMMIT`, which is about
    /// all of its table.
    pub about: Option<String>,
}

impl OffendingLine {
    fn of(script: &str, number: usize) -> Option<Self> {
        let text = script.lines().nth(number.checked_sub(1)?)?;
        let about = || {
            let above = script.lines().take(number - 1).filter_map(|line| line.strip_prefix("# "));
            above.last().map(shortened)
        };
        let about = if text == COMMIT { None } else { about() };
        Some(Self { number, text: shortened(text), about })
    }
}

/// The last line of a table in a script.
const COMMIT: &str = "COMMIT";

impl fmt::Display for OffendingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, \"{}\"", self.number, self.text)?;
        self.about.as_ref().map_or(Ok(()), |about| write!(f, " ({about})"))
    }
}

/// How a run of a script ended that did not end well.
pub(super) struct Outcome<'a> {
    pub(super) program: &'a str,
    pub(super) script: &'a str,
    pub(super) said: &'a str,
    pub(super) status: ExitStatus,
}

impl Outcome<'_> {
    /// Whether another program held the xtables lock for too long.
    pub(super) fn tells_of_lock(&self) -> bool {
        self.status.code() == Some(RESOURCE_PROBLEM) && self.said.contains("xtables lock")
    }
}

/// The error of a script that was not taken.
pub(super) fn error(outcome: &Outcome<'_>) -> Error {
    let Outcome { program, script, said, status } = *outcome;
    let number = said.lines().find_map(line_number);
    if said.contains("sendmsg() failed: Message too long") {
        return Error::ScriptTooLarge { program: program.to_owned(), bytes: script.len() };
    }
    let circumstance = is_circumstance(said) || (number.is_none() && status.code() == Some(RESOURCE_PROBLEM));
    if said.contains(NO_SOCKET_TO_IPSET) {
        return Error::Permission { operation: format!("open a raw socket to ipset in {program}") };
    }
    if circumstance || is_permission(said) {
        return failure(&format!("run {program}"), said, status);
    }
    let line = number.and_then(|number| OffendingLine::of(script, number));
    let mut said = essence(said, status);
    if said.is_empty() {
        said = match &line {
            Some(line) if line.text == COMMIT => {
                "the kernel took no line of this table, and does not say which is at fault".to_owned()
            }
            _ => "it gives no reason".to_owned(),
        };
    }
    Error::Rejected { program: program.to_owned(), line, said }
}

/// The error of a program that failed, but not for what it was given.
pub(super) fn failure(operation: &str, said: &str, status: ExitStatus) -> Error {
    if is_permission(said) {
        return Error::Permission { operation: operation.to_owned() };
    }
    Error::io(operation, io::Error::other(essence(said, status)))
}

/// What the extension `set` says without CAP_NET_RAW.
const NO_SOCKET_TO_IPSET: &str = "Can't open socket to ipset";

fn is_permission(said: &str) -> bool {
    said.contains("you must be root")
}

/// Whether something was lacking for the moment, or somebody else was faster, in the words of strerror(3), as the nft
/// back end passes them on.
fn is_circumstance(said: &str) -> bool {
    const LACKING: [&str; 5] = [
        "(File exists)",
        "(Cannot allocate memory)",
        "(No buffer space available)",
        "(No space left on device)",
        "(Resource temporarily unavailable)",
    ];
    LACKING.iter().any(|lacking| said.contains(lacking))
}

/// The number of a script's line in one of the forms `iptables-restore: line 43 failed`, `Error occurred at line: 12`,
/// `line 12: RULE_APPEND failed (…)` and `iptables-restore: COMMIT expected at line 3`.
fn line_number(said: &str) -> Option<usize> {
    let said = without_program(said);
    let from = ["Error occurred at line: ", "COMMIT expected at line ", "line "]
        .iter()
        .find_map(|start| said.strip_prefix(start))?;
    leading_number(from).map(|(number, _)| number)
}

fn leading_number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// What a program said, less its name, the line's number and its hints, in one line; or how it ended if it said nothing
/// at all. Empty if it gave nothing but a line's number.
fn essence(said: &str, status: ExitStatus) -> String {
    const HINTS: [&str; 3] = ["# Warning: ", "Try `", "Error occurred at line"];
    let lines = said.lines().map(without_program).filter(|line| !line.is_empty());
    let essential: Vec<&str> =
        lines.filter(|line| !HINTS.iter().any(|hint| line.starts_with(hint))).map(without_number).collect();
    if let Some(signal) = status.signal() {
        return shortened(&format!("it was ended by signal {signal} {}", essential.join("; ")));
    }
    if essential.is_empty() {
        return format!("it gives no reason ({status})");
    }
    shortened(&essential.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("; "))
}

/// Less `iptables-restore: ` and `iptables-restore v1.8.9 (legacy): `, of which there may be one after the other.
fn without_program(said: &str) -> &str {
    let mut said = said.trim();
    while let Some((head, rest)) = said.split_once(':') {
        let name = head.split(' ').next().unwrap_or_default();
        if !(name.starts_with("iptables") || name.starts_with("ip6tables")) {
            break;
        }
        said = rest.trim_start();
    }
    said
}

/// Less `line 12: ` or `line 12 failed: `, which is told otherwise.
fn without_number(said: &str) -> &str {
    let Some((_, rest)) = said.strip_prefix("line ").and_then(leading_number) else { return said };
    let rest = rest.strip_prefix(" failed").unwrap_or(rest);
    rest.strip_prefix(':').unwrap_or(rest).trim_start()
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
