//! Cuts the text of a file into the pieces that are decoded, and hashed, one by one: documents, and the items of lists.
//!
//! Cutting comes first so that a piece which does not parse takes no other along, and so that a saved file is decoded
//! only where it changed. Pure text work; every piece knows on which line of the file it begins.

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The text, without the marker before it.
    pub(super) text: &'a str,
    /// The line of the file that it begins on, counted from 1.
    pub(super) line: usize,
}

/// The documents of a YAML or JSON file that hold anything but comments and directives.
pub(super) fn documents(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut current = Piece { text, line: 1 };
    for Line { text: line, start, number } in lines(text) {
        let Some(rest) = after_marker(line) else { continue };
        let begin = offset(text, current.text);
        documents.push(Piece { text: &text[begin..start], ..current });
        current = Piece { text: &text[start + line.len() - rest.len()..], line: number };
    }
    documents.push(current);
    documents.into_iter().filter(|piece| !is_blank(piece.text))
}

/// The items of a list in block style, as `kubectl get -o yaml` writes it: each piece is a sequence of one. `None` for
/// what has no such items, or cannot be cut safely since its pieces refer to each other (anchors and aliases).
pub(super) fn items<'a>(list: Piece<'a>) -> Option<Vec<Piece<'a>>> {
    let mut items = Vec::new();
    let mut state = State::Before;
    for Line { text, start, number } in lines(list.text) {
        let content = text.trim_start_matches(' ');
        let indent = text.len() - content.len();
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if has_reference(content) {
            return None;
        }
        state = match state {
            State::Before if indent == 0 && content == "items:" => State::Items { indent: None },
            State::Before | State::After if indent > 0 || is_key(content) => state,
            State::Items { indent: None } if is_item(content) => {
                items.push((start, number));
                State::Items { indent: Some(indent) }
            }
            State::Items { indent: Some(dash) } if indent == dash && is_item(content) => {
                items.push((start, number));
                state
            }
            State::Items { indent: Some(dash) } if indent > dash => state,
            State::Items { indent: Some(_) } if indent == 0 && is_key(content) => {
                items.push((start, number));
                State::After
            }
            _ => return None,
        };
    }
    let end = match state {
        State::Before | State::Items { indent: None } => return None,
        // The key after the last item was pushed as the end of it.
        State::After => items.pop()?.0,
        State::Items { .. } => list.text.len(),
    };
    let ends = items.iter().skip(1).map(|(start, _)| *start).chain([end]);
    let piece =
        |(&(start, number), end)| Piece { text: &list.text[start..end], line: list.line + number - 1 };
    Some(items.iter().zip(ends).map(piece).collect())
}

#[derive(Clone, Copy)]
enum State {
    Before,
    Items { indent: Option<usize> },
    After,
}

struct Line<'a> {
    /// The line with its end.
    text: &'a str,
    /// Where it starts in the whole text.
    start: usize,
    /// Counted from 1.
    number: usize,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut end = 0;
    text.split_inclusive('\n').zip(1..).map(move |(text, number)| {
        let start = end;
        end += text.len();
        Line { text, start, number }
    })
}

/// What follows a `---` or `...` marker on its line.
fn after_marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
}

fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with(['#', '%']))
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

fn is_key(content: &str) -> bool {
    let name = content.len() - content.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
    name > 0 && content[name..].starts_with(':')
}

/// Whether a line may define or use an anchor; says so too often rather than too rarely.
fn has_reference(content: &str) -> bool {
    let sign = |at: usize| at == 0 || content[..at].ends_with([' ', '[', '{', ',']);
    content.match_indices(['&', '*']).any(|(at, _)| sign(at))
}

/// Where `part`, a tail of `whole`, begins in it.
fn offset(whole: &str, part: &str) -> usize {
    whole.len() - part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<(usize, &str)> {
        documents(text).map(|piece| (piece.line, piece.text)).collect()
    }

    #[test]
    fn documents_end_at_markers() {
        assert_eq!(split("a: 1\n---\nb: 2\n...\n# end\n"), [(1, "a: 1\n"), (2, "\nb: 2\n")]);
        assert_eq!(split("%YAML 1.2\n--- # first\na: 1\n---"), [(2, " # first\na: 1\n")]);
        assert_eq!(split("\u{feff}---\r\na: 1\r\n---\r\nb: 2"), [(1, "\r\na: 1\r\n"), (3, "\r\nb: 2")]);
        assert_eq!(split("a: |\n  ---\n  text\n"), [(1, "a: |\n  ---\n  text\n")]);
        assert_eq!(split("---a: 1\n"), [(1, "---a: 1\n")]);
        assert_eq!(split("\n# nothing\n---\n"), []);
    }

    fn cut(text: &str) -> Option<Vec<(usize, &str)>> {
        let items = items(Piece { text, line: 10 })?;
        Some(items.into_iter().map(|piece| (piece.line, piece.text)).collect())
    }

    #[test]
    fn items_begin_at_their_dashes() {
        let list = "apiVersion: v1\nitems:\n- a: 1\n  b:\n  - c\n# note\n- a: 2\nkind: List\nmetadata:\n  resourceVersion: \"\"\n";
        let expected = vec![(12, "- a: 1\n  b:\n  - c\n# note\n"), (16, "- a: 2\n")];
        assert_eq!(cut(list), Some(expected));
        let indented = "kind: List\nitems:\n\n  - a: 1\n    b: 2\n  -\n    a: 2";
        assert_eq!(cut(indented), Some(vec![(13, "  - a: 1\n    b: 2\n"), (15, "  -\n    a: 2")]));
    }

    #[test]
    fn what_is_no_block_list_is_left_whole() {
        for text in [
            "kind: Service\n",
            "items: []\n",
            "items:\n",
            "items: [{a: 1}]\n",
            "items:\n- a: &x 1\n- a: *x\n",
            "items:\n  - a: 1\n - b: 2\n",
            "items:\n- a: [\n1 ]\n",
            "{items: [a]}\n",
        ] {
            assert_eq!(cut(text), None, "{text}");
        }
    }

    proptest! {
        /// Cutting loses nothing and knows its lines: every line that is neither marker nor blank is in the document
        /// that says it is.
        #[test]
        fn every_line_is_where_it_says(parts in prop::collection::vec("(---|\\.\\.\\.|--- x|a: [0-9]|  - b| *# c|%d|)\r?", 0..20)) {
            let text = parts.join("\n");
            let all: Vec<&str> = text.split('\n').collect();
            let mut found = 0;
            for piece in documents(&text) {
                for (at, line) in piece.text.split('\n').enumerate() {
                    prop_assert!(all.get(piece.line - 1 + at).is_some_and(|whole| whole.ends_with(line)));
                    found += usize::from(line.starts_with('a') || line.starts_with("  -"));
                }
            }
            let expected = all.iter().filter(|line| line.starts_with('a') || line.starts_with("  -")).count();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_text_is_cut_without_panic(text in "(?s).{0,200}") {
            for piece in documents(&text) {
                let cut: usize = items(piece).into_iter().flatten().map(|item| item.text.len()).sum();
                prop_assert!(cut <= piece.text.len());
            }
        }

        #[test]
        fn lists_are_cut_without_panic(text in "(items:|- a|  b: 1|kind: L|  - c|\n| |é){0,40}") {
            for piece in documents(&text) {
                for item in items(piece).into_iter().flatten() {
                    prop_assert!(item.text.trim_start().starts_with('-'));
                }
            }
        }
    }
}
