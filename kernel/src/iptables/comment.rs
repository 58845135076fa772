//! Comments of rules, in the very form in which `iptables-save` prints them.

use std::borrow::Cow;

/// Longest comment that the kernel takes, in bytes (`XT_MAX_COMMENT_LEN`, less the terminating zero).
const MOST: usize = 255;

/// The match that carries a comment. What cannot stand in one is replaced.
#[must_use]
pub fn comment(text: &str) -> String {
    let text = plain(text);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match !text.is_empty() && text.bytes().all(is_word) {
        true => format!("-m comment --comment {text}"),
        false => format!("-m comment --comment \"{text}\""),
    }
}

/// What may stand in a comment, or in a line of a script: one line without quotes or anything unprintable, cut to what
/// the kernel takes.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\'' | '\\');
    if text.len() <= MOST && text.chars().all(allowed) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if allowed(c) { c } else { '_' }).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_comment() {
        assert_eq!(comment("a\" -j ACCEPT\n-X\\ '\u{1f682}"), "-m comment --comment \"a_ -j ACCEPT_-X_ __\"");
        assert_eq!(comment("plain-word_1"), "-m comment --comment plain-word_1");
        assert_eq!(plain(&"long".repeat(100)).len(), MOST);
    }
}
