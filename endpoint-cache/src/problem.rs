//! Reporting what cannot be used, once.

use std::collections::HashMap;

use crate::Problem;
use crate::object::{Kind, ObjectName, ObjectRef};

/// An object with a thousand bad addresses is one problem, not a thousand.
const MOST_PER_OBJECT: usize = 16;

/// Collects the problems of one object while it is read.
#[derive(Debug)]
pub(crate) struct Findings {
    object: ObjectRef,
    found: Vec<Problem>,
    more: usize,
}

impl Findings {
    pub(crate) fn of(object: ObjectRef) -> Self {
        Self { object, found: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.found.len() < MOST_PER_OBJECT {
            let object = self.object.clone();
            self.found.push(Problem { object, field: field.into(), reason: reason.into() });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let reason = format!("{} more problems like these.", self.more);
            self.found.push(Problem { object: self.object, field: String::new(), reason });
        }
        self.found
    }
}

/// The problems found last, by object, so that each is reported only when it is new.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    standing: HashMap<ObjectRef, Vec<Problem>>,
    news: Vec<Problem>,
}

impl Problems {
    /// Replaces what is known of an object; what was not known before is news.
    pub(crate) fn replace(&mut self, findings: Findings) {
        let object = findings.object.clone();
        let found = findings.finish();
        if found.is_empty() {
            self.forget(&object);
            return;
        }
        let known = self.standing.get(&object).map_or(&[][..], Vec::as_slice);
        self.news.extend(found.iter().filter(|problem| !known.contains(problem)).cloned());
        self.standing.insert(object, found);
    }

    /// The object is gone.
    pub(crate) fn forget(&mut self, object: &ObjectRef) {
        self.standing.remove(object);
    }

    /// What is wrong with an object.
    pub(crate) fn of(&self, object: &ObjectRef) -> &[Problem] {
        self.standing.get(object).map_or(&[], Vec::as_slice)
    }

    /// The objects of a kind that have problems.
    pub(crate) fn objects(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        self.standing.keys().filter(move |object| object.kind == kind).map(|object| &object.name)
    }

    /// What is new since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.news)
    }
}
