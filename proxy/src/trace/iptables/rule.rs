//! A rule as it is saved, read.

use super::matches::{self, Match};
use super::target::Target;
use super::words::{self, Given};

/// What a rule asks of packets, and what becomes of those that it matches.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) target: Target,
}

impl Rule {
    /// Reads what follows `-A CHAIN `. What is not understood is in the rule as such.
    pub(super) fn parse(text: &str) -> Self {
        let words = without_comments(words::split(text));
        let is_end = |word: &String| matches!(word.as_str(), "-j" | "-g");
        let end = words.iter().position(is_end).unwrap_or(words.len());
        let (asked, target) = words.split_at(end);
        Self { matches: matches_of(asked), target: Target::parse(target) }
    }
}

/// A comment may read like an option.
fn without_comments(mut words: Vec<String>) -> Vec<String> {
    while let Some(at) = words.iter().position(|word| word == "--comment") {
        words.drain(at..words.len().min(at + 2));
    }
    words
}

/// What is asked of a packet: of its addresses first, then by each extension.
fn matches_of(words: &[String]) -> Vec<Match> {
    let (mut found, mut extension, mut group) = (Vec::new(), None, Vec::new());
    for given in words::options(words) {
        if given.name == "-m" {
            found.extend(matches::of(extension, &group));
            extension = Some(given.value().unwrap_or_default());
            group.clear();
        } else {
            group.push(given);
        }
    }
    found.extend(matches::of(extension, &group));
    found
}

/// How options read in a rule.
pub(super) fn written(extension: Option<&str>, options: &[Given<'_>]) -> String {
    let extension = extension.map(|name| format!("-m {name}"));
    let options = options.iter().map(|Given { negated, name, values }| {
        let not = if *negated { "! " } else { "" };
        std::iter::once(format!("{not}{name}")).chain(values.iter().cloned()).collect::<Vec<_>>().join(" ")
    });
    extension.into_iter().chain(options).collect::<Vec<_>>().join(" ")
}
