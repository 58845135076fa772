//! Lines of `iptables-save`, taken apart into words and options.

/// The words of a line. One in quotes is one word, in which a backslash lets the next character stand for itself.
pub(super) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// An option with what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given<'a> {
    /// Whether a `!` stands before it.
    pub(super) negated: bool,
    /// With its dashes.
    pub(super) name: &'a str,
    pub(super) values: &'a [String],
}

impl<'a> Given<'a> {
    pub(super) fn value(&self) -> Option<&'a str> {
        self.values.first().map(String::as_str)
    }
}

/// The options in a row of words. Words before the first of them are left out.
pub(super) fn options(words: &[String]) -> Vec<Given<'_>> {
    let is_option = |word: &String| word.len() > 1 && word.starts_with('-') && !is_number(word);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < words.len() {
        if is_option(&words[at]) {
            let rest = &words[at + 1..];
            let end = rest.iter().position(|word| is_option(word) || word == "!").unwrap_or(rest.len());
            let negated = at.checked_sub(1).is_some_and(|before| words[before] == "!");
            found.push(Given { negated, name: &words[at], values: &rest[..end] });
        }
        at += 1;
    }
    found
}

fn is_number(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok())
}

/// Reads a number as C does: `0x4000`, `16384`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads `0x4000/0x4000`; without a mask, all bits count.
pub(super) fn masked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_a_word_together() {
        let words = split(r#"-m comment --comment "a\"b \\ -c" -j "" LOG"#);
        assert_eq!(words, ["-m", "comment", "--comment", r#"a"b \ -c"#, "-j", "", "LOG"]);
        assert_eq!(split("  "), [""; 0]);
        assert_eq!(split(r#"x "open \"#), ["x", "open "]);
    }

    #[test]
    fn options_come_with_their_values() {
        let words = split("stray ! -s 10.0.0.0/8 --set ! --match-set A dst,dst --nice -5");
        let options = options(&words);
        let told = |given: &Given<'_>| format!("{} {} {}", given.negated, given.name, given.values.join(" "));
        let told: Vec<_> = options.iter().map(told).collect();
        assert_eq!(
            told,
            ["true -s 10.0.0.0/8", "false --set ", "true --match-set A dst,dst", "false --nice -5"]
        );
    }

    #[test]
    fn marks_are_read_with_their_masks() {
        assert_eq!(masked("0x4000/0x8"), Some((0x4000, 8)));
        assert_eq!(masked("12"), Some((12, u32::MAX)));
        assert_eq!((masked("0x"), masked("1/"), masked("-1")), (None, None, None));
    }
}
