//! The text of a file into the objects it holds and the problems it has. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use endpoint_cache::object::{Kind, ObjectRef};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_saphyr::Spanned;

use super::head::Holds;
use super::read::{self, Decoded, Fault, Json, Read, Yaml, YamlItem};
use super::split::{self, Piece};
use crate::source::{Text, Vocabulary};

/// What a file holds besides objects.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// What cannot be used, and why.
    pub(super) problems: Vec<Fault>,
    /// Kinds that nobody here reads, with their lines.
    pub(super) ignored: Vec<(usize, String)>,
}

/// An object in a file.
#[derive(Debug)]
pub(super) struct Found<U> {
    pub(super) object: ObjectRef,
    /// Of the text, or of what it was decoded to: the same hash means the same object.
    pub(super) hash: u64,
    /// The line it begins on.
    pub(super) line: usize,
    /// The object itself; `None` where the hash was known.
    pub(super) update: Option<U>,
}

/// Reads a file and hands on its objects in their order. Text whose hash is `known` to hold an object is not decoded
/// again.
pub(super) fn parse<U: Vocabulary>(
    text: &str,
    known: &dyn Fn(u64) -> Option<ObjectRef>,
    hand_on: &mut dyn FnMut(Found<U>),
) -> Parsed {
    let mut parser = Parser { known, hand_on, parsed: Parsed::default() };
    for document in split::documents(text) {
        if !parser.recognised(document) {
            parser.document(document);
        }
    }
    parser.parsed
}

struct Parser<'k, U> {
    known: &'k dyn Fn(u64) -> Option<ObjectRef>,
    hand_on: &'k mut dyn FnMut(Found<U>),
    parsed: Parsed,
}

impl<U: Vocabulary> Parser<'_, U> {
    fn document(&mut self, piece: Piece<'_>) {
        // What looks like JSON and is none may still be YAML in flow style.
        if piece.text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(piece.text).is_ok() {
            return match Json(piece.text).holds::<U>() {
                Ok(Holds::List(kind)) => self.json_list(kind, piece),
                holds => self.object(holds, piece.line, piece_hash(piece), Json(piece.text)),
            };
        }
        match Yaml(piece.text).holds::<U>() {
            Ok(Holds::List(kind)) => match split::items(piece) {
                Some(items) => items.into_iter().for_each(|item| self.item(kind, item, YamlItem(item.text))),
                None => self.whole_list(kind, piece),
            },
            holds => self.object(holds, piece.line, piece_hash(piece), Yaml(piece.text)),
        }
    }

    /// An item that was cut out of its list.
    fn item(&mut self, kind: Option<Kind>, piece: Piece<'_>, from: impl Read) {
        if !self.recognised(piece) {
            self.object(holds::<U>(kind, from), piece.line, piece_hash(piece), from);
        }
    }

    /// A YAML list that cannot be cut: decoded whole, so that its items are told apart by their values.
    fn whole_list(&mut self, kind: Option<Kind>, piece: Piece<'_>) {
        let list: WholeList = match Yaml(piece.text).read() {
            Ok(list) => list,
            Err(fault) => return self.problem(piece.line, fault),
        };
        for item in list.items.unwrap_or_default() {
            let line = usize::try_from(item.referenced.line()).unwrap_or(1).max(1);
            let from = Decoded(&item.value);
            self.object(holds::<U>(kind, from), piece.line + line - 1, hash(&item.value), from);
        }
    }

    fn json_list(&mut self, kind: Option<Kind>, piece: Piece<'_>) {
        let items: Vec<&RawValue> = match serde_json::from_str::<JsonList<'_>>(piece.text) {
            Ok(list) => list.items.unwrap_or_default(),
            Err(error) => return self.problem(piece.line, read::json_fault(&error)),
        };
        // The items are slices of the text, in its order.
        let (mut line, mut rest) = (piece.line, piece.text);
        for item in items {
            let text = item.get();
            let (before, from_here) = rest.split_at(text.as_ptr().addr() - rest.as_ptr().addr());
            line += before.matches('\n').count();
            rest = from_here;
            self.item(kind, Piece { text, line }, Json(text));
        }
    }

    /// Whether the piece is, to the letter, one that is known to hold an object.
    fn recognised(&mut self, piece: Piece<'_>) -> bool {
        let hash = piece_hash(piece);
        let Some(object) = (self.known)(hash) else { return false };
        (self.hand_on)(Found { object, hash, line: piece.line, update: None });
        true
    }

    fn object(&mut self, holds: Result<Holds, Fault>, line: usize, hash: u64, from: impl Read) {
        let read = match holds {
            Ok(Holds::Object(kind)) => match read::object(kind, from) {
                Some(read) => read,
                None => return self.parsed.ignored.push((line, kind.to_string())),
            },
            Ok(Holds::List(_)) => Err(Fault { line: 1, reason: "a list within a list".to_owned() }),
            Ok(Holds::Other(what)) => return self.parsed.ignored.push((line, what)),
            Err(fault) => Err(fault),
        };
        match read {
            Ok((object, update)) => {
                (self.hand_on)(Found { object, hash, line, update: Some(update) });
            }
            Err(fault) => self.problem(line, fault),
        }
    }

    /// A fault of the piece that begins on this line.
    fn problem(&mut self, line: usize, fault: Fault) {
        self.parsed.problems.push(Fault { line: line + fault.line - 1, ..fault });
    }
}

#[derive(Deserialize)]
struct WholeList {
    items: Option<Vec<Spanned<serde_json::Value>>>,
}

#[derive(Deserialize)]
struct JsonList<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// What an item holds: what its list says, or else what it says itself.
fn holds<U: Vocabulary>(kind: Option<Kind>, item: impl Read) -> Result<Holds, Fault> {
    kind.map_or_else(|| item.holds::<U>(), |kind| Ok(Holds::Object(kind)))
}

/// The same for a piece with other blank lines around it.
fn piece_hash(piece: Piece<'_>) -> u64 {
    hash(piece.text.trim_start_matches(['\r', '\n']).trim_end())
}

fn hash(content: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
