//! Which file holds which object, and which of them is in force. Pure.
//!
//! Objects are not kept, only hashes of them: enough to tell what a save changed. A batch is [`Inventory::take`] for
//! each file that may have changed, then [`Inventory::settle`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use endpoint_cache::object::ObjectRef;

use super::parse::{Found, Parsed, parse};
use super::read::Fault;
use crate::source::Vocabulary;

/// What a file was found to be.
#[derive(Debug)]
pub(super) enum Content {
    /// There is no such file: its objects go.
    Gone,
    /// It cannot be read: its objects stay as they are.
    Unreadable(String),
    /// Its text.
    Text(String),
}

/// Something worth a warning. Displays as `file:line: reason`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    file: Arc<Path>,
    /// `None` where the file as a whole is meant.
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}: {}", self.file.display(), self.reason),
        }
    }
}

/// What came of a batch.
#[derive(Debug)]
pub(super) struct Settled<U> {
    /// What is in force now and was not before, in no particular order.
    pub(super) updates: Vec<U>,
    /// Files that hold what is to be in force again, though they did not change: take them afresh and settle again.
    pub(super) reread: BTreeSet<Arc<Path>>,
}

/// How much of a file is decoded, and how it is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// What is not known yet.
    New,
    /// What is known, too.
    Everything,
    /// What is not known yet, handed on before all of it is read.
    InParts,
}

/// Objects that are handed on together at the start.
const PART: usize = 500;

/// What is known of all files.
#[derive(Debug)]
pub(super) struct Inventory<U> {
    files: HashMap<Arc<Path>, File>,
    objects: HashMap<ObjectRef, Object>,
    /// Objects that the current batch may have changed.
    touched: HashSet<ObjectRef>,
    /// Objects decoded in the current batch, each with what holds it.
    decoded: HashMap<ObjectRef, (Claim, U)>,
    problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct File {
    /// Hashes of the pieces that hold an object.
    pieces: HashMap<u64, ObjectRef>,
    /// Whether some of it could not be used when it was last read.
    broken: bool,
}

#[derive(Debug, Default)]
struct Object {
    /// Hash of what was handed on last.
    in_force: Option<u64>,
    /// Who holds it, sorted by file: the last one counts.
    claims: Vec<Claim>,
}

/// A file holding an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    file: Arc<Path>,
    hash: u64,
}

impl<U> Default for Inventory<U> {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            objects: HashMap::new(),
            touched: HashSet::new(),
            decoded: HashMap::new(),
            problems: Vec::new(),
        }
    }
}

impl<U: Vocabulary> Inventory<U> {
    /// Takes in what a file holds now.
    pub(super) fn take(&mut self, file: &Arc<Path>, content: Content) {
        self.read(file, content, Reading::New, &mut |_| ());
    }

    /// Takes in a file that [`Inventory::settle`] asked for, decoding also what was known.
    pub(super) fn retake(&mut self, file: &Arc<Path>, content: Content) {
        self.read(file, content, Reading::Everything, &mut |_| ());
    }

    /// Takes in a file at the start, before anything is programmed: what it puts in force is handed on in parts, so
    /// that a large file is never in memory decoded as a whole. Files must come sorted.
    pub(super) fn take_first(&mut self, file: &Arc<Path>, content: Content, hand_on: &mut dyn FnMut(Vec<U>)) {
        self.read(file, content, Reading::InParts, hand_on);
        hand_on(self.settle().updates);
    }

    /// Whether some of the file could not be used when it was last read.
    pub(super) fn is_broken(&self, file: &Path) -> bool {
        self.files.get(file).is_some_and(|file| file.broken)
    }

    /// The files that are there, as far as known.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.files.keys()
    }

    /// What was worth a warning since the last call.
    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// Ends a batch: what it put in force.
    pub(super) fn settle(&mut self) -> Settled<U> {
        let mut settled = Settled { updates: Vec::new(), reread: BTreeSet::new() };
        let mut decoded = std::mem::take(&mut self.decoded);
        for name in std::mem::take(&mut self.touched) {
            let Entry::Occupied(mut entry) = self.objects.entry(name.clone()) else { continue };
            let object = entry.get_mut();
            let Some(claim) = object.claims.last() else {
                if object.in_force.is_some() {
                    settled.updates.push(U::deleted(name));
                }
                entry.remove();
                continue;
            };
            if object.in_force == Some(claim.hash) {
                continue;
            }
            match decoded.remove(&name) {
                Some((from, update)) if from == *claim => {
                    object.in_force = Some(claim.hash);
                    settled.updates.push(update);
                }
                _ => {
                    settled.reread.insert(Arc::clone(&claim.file));
                }
            }
        }
        settled
    }

    fn read(
        &mut self,
        file: &Arc<Path>,
        content: Content,
        reading: Reading,
        hand_on: &mut dyn FnMut(Vec<U>),
    ) {
        let before = self.files.remove(file).unwrap_or_default();
        let text = match content {
            Content::Gone => None,
            Content::Text(text) => Some(text),
            Content::Unreadable(reason) => {
                self.problems.push(Problem { file: Arc::clone(file), line: None, reason });
                self.files.insert(Arc::clone(file), File { broken: true, ..before });
                return;
            }
        };
        let known = |hash| before.pieces.get(&hash).filter(|_| reading != Reading::Everything).cloned();
        let mut now = File::default();
        let mut held = HashSet::new();
        let parsed = parse(text.as_deref().unwrap_or_default(), &known, &mut |found| {
            self.found(file, found, &mut now, &mut held);
            if reading == Reading::InParts && self.decoded.len() >= PART {
                hand_on(self.settle().updates);
            }
        });
        now.broken = !parsed.problems.is_empty();
        self.keep_or_let_go(file, before, &held, &mut now);
        self.report(file, parsed);
        if text.is_some() {
            self.files.insert(Arc::clone(file), now);
        }
    }

    fn found(&mut self, file: &Arc<Path>, found: Found<U>, now: &mut File, held: &mut HashSet<ObjectRef>) {
        let Found { object, hash, line, update } = found;
        if !held.insert(object.clone()) {
            self.warn(
                file,
                line,
                format!("{object} again: this one counts, since it is the last in the file"),
            );
        }
        self.claim(file, line, &object, hash);
        if let Some(update) = update {
            self.decoded(Claim { file: Arc::clone(file), hash }, &object, update);
        }
        now.pieces.insert(hash, object);
    }

    /// What the file held before and was not found in it now.
    fn keep_or_let_go(&mut self, file: &Arc<Path>, before: File, held: &HashSet<ObjectRef>, now: &mut File) {
        for (hash, object) in before.pieces {
            if held.contains(&object) {
                continue;
            }
            if now.broken {
                // It may be the piece that is broken: it stays as it was until the file is whole again.
                now.pieces.insert(hash, object);
            } else {
                self.unclaim(file, object);
            }
        }
    }

    fn report(&mut self, file: &Arc<Path>, parsed: Parsed) {
        for (line, what) in parsed.ignored {
            tracing::debug!("{}:{line}: {what} is not read", file.display());
        }
        for Fault { line, reason } in parsed.problems {
            self.warn(file, line, reason);
        }
    }

    fn claim(&mut self, file: &Arc<Path>, line: usize, name: &ObjectRef, hash: u64) {
        self.touched.insert(name.clone());
        let claims = &mut self.objects.entry(name.clone()).or_default().claims;
        match claims.binary_search_by(|claim| claim.file.cmp(file)) {
            Ok(at) => claims[at].hash = hash,
            Err(at) => {
                claims.insert(at, Claim { file: Arc::clone(file), hash });
                if let [.., other, last] = &claims[..] {
                    let other = if last.file == *file { other } else { last };
                    let (other, last) = (other.file.display(), last.file.display());
                    let reason = format!(
                        "{name} is also in {other}: the one in {last} counts, since its name sorts last"
                    );
                    self.warn(file, line, reason);
                }
            }
        }
    }

    fn unclaim(&mut self, file: &Arc<Path>, name: ObjectRef) {
        if let Some(object) = self.objects.get_mut(&name) {
            object.claims.retain(|claim| claim.file != *file);
        }
        self.touched.insert(name);
    }

    /// Keeps the update of the file that sorts last: no other can be the one that counts.
    fn decoded(&mut self, claim: Claim, name: &ObjectRef, update: U) {
        let outranked = self.decoded.get(name).is_some_and(|(other, _)| other.file > claim.file);
        if !outranked {
            self.decoded.insert(name.clone(), (claim, update));
        }
    }

    fn warn(&mut self, file: &Arc<Path>, line: usize, reason: String) {
        self.problems.push(Problem { file: Arc::clone(file), line: Some(line), reason });
    }
}
