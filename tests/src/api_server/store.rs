//! The objects, their versions, and what changed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::kind::{self, KINDS};
use super::object::{Draft, Identity, Key, Object};
use super::selector::Filter;

/// All objects of one kind.
type Objects = BTreeMap<Key, Arc<Object>>;

/// What the server holds at some moment: objects and version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: u64,
    objects: [Objects; KINDS],
}

impl Snapshot {
    /// The version of this moment.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) old: Option<Arc<Object>>,
    pub(crate) new: Option<Arc<Object>>,
}

impl Change {
    fn key(&self) -> Option<&Key> {
        self.new.as_ref().or(self.old.as_ref()).map(|object| &object.key)
    }
}

/// What an open watch has not seen yet.
pub(crate) struct News {
    pub(crate) changes: Vec<Change>,
    /// The version that one is at after these changes.
    pub(crate) version: u64,
}

/// How many changes a watch gets at once.
const BATCH: usize = 1024;

#[derive(Debug, Default)]
struct Table {
    objects: Objects,
    history: VecDeque<Change>,
    /// The version of the newest change that was dropped from the history.
    dropped: u64,
}

/// The objects and the history that watches are served from.
#[derive(Debug)]
pub(crate) struct Store {
    version: u64,
    /// No request may go back before this.
    horizon: u64,
    tables: [Table; KINDS],
    uids: u64,
    history: usize,
}

impl Store {
    /// An empty store that remembers so many changes of each kind.
    pub(crate) fn new(history: usize) -> Self {
        Self { version: 1, horizon: 1, tables: Default::default(), uids: 0, history }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version from which changes of a kind are known.
    pub(crate) fn oldest(&self, kind: usize) -> u64 {
        self.horizon.max(self.tables[kind].dropped)
    }

    /// Creates or replaces an object and returns its version. Nothing happens if it is the same already.
    pub(crate) fn put(&mut self, object: Value) -> Result<u64> {
        self.put_draft(Draft::new(object)?)
    }

    fn put_draft(&mut self, draft: Draft) -> Result<u64> {
        let kind = draft.kind;
        let old = self.tables[kind].objects.get(&draft.key).cloned();
        let identity = match &old {
            Some(old) => draft.identity(|| old.identity.clone()),
            None => draft.identity(|| self.new_identity()),
        };
        let new = draft.encode(identity, self.version + 1)?;
        if let Some(old) = &old
            && old.same_content(&new)
        {
            return Ok(old.version);
        }
        let new = Arc::new(new);
        self.tables[kind].objects.insert(new.key.clone(), Arc::clone(&new));
        Ok(self.record(kind, old, Some(new)))
    }

    /// Removes an object and returns the version of that.
    pub(crate) fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<u64> {
        let place = kind::named(kind).with_context(|| format!("objects of kind {kind:?} are not served"))?;
        let key = Key { namespace: namespace.into(), name: name.into() };
        let old = self.tables[place].objects.remove(&key);
        let old = old.with_context(|| format!("there is no {kind} {namespace}/{name}"))?;
        Ok(self.record(place, Some(old), None))
    }

    /// Makes the store hold these objects and no others.
    pub(crate) fn hold(&mut self, objects: Vec<Value>) -> Result<()> {
        let mut wanted = HashSet::new();
        let drafts = objects.into_iter().map(Draft::new).collect::<Result<Vec<_>>>()?;
        for draft in &drafts {
            wanted.insert((draft.kind, draft.key.namespace.clone(), draft.key.name.clone()));
        }
        for (place, kind) in kind::ALL.iter().enumerate() {
            let keys = self.tables[place].objects.keys();
            let gone = keys.filter(|key| !wanted.contains(&(place, key.namespace.clone(), key.name.clone())));
            for key in gone.cloned().collect::<Vec<_>>() {
                self.delete(kind.name, &key.namespace, &key.name)?;
            }
        }
        for draft in drafts {
            self.put_draft(draft)?;
        }
        Ok(())
    }

    fn new_identity(&mut self) -> Identity {
        self.uids += 1;
        let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Identity {
            uid: format!("00000000-0000-4000-8000-{:012x}", self.uids).into(),
            created: created.into(),
        }
    }

    fn record(&mut self, kind: usize, old: Option<Arc<Object>>, new: Option<Arc<Object>>) -> u64 {
        self.version += 1;
        let table = &mut self.tables[kind];
        table.history.push_back(Change { version: self.version, old, new });
        while table.history.len() > self.history {
            table.dropped = table.history.pop_front().map_or(0, |change| change.version);
        }
        self.version
    }

    /// One object.
    pub(crate) fn get(&self, kind: usize, key: &Key) -> Option<Arc<Object>> {
        self.tables[kind].objects.get(key).cloned()
    }

    /// The objects that a filter matches, as they were at a version, after a key. `None` if that is no longer known.
    pub(crate) fn at(
        &self,
        kind: usize,
        version: u64,
        after: Option<&Key>,
        filter: &Filter,
    ) -> Option<Vec<&Arc<Object>>> {
        let table = &self.tables[kind];
        if version < self.oldest(kind) {
            return None;
        }
        // What later changes replaced; the first of them counts.
        let mut before: BTreeMap<&Key, Option<&Arc<Object>>> = BTreeMap::new();
        for change in table.history.range(table.history.partition_point(|change| change.version <= version)..)
        {
            if let Some(key) = change.key() {
                before.entry(key).or_insert(change.old.as_ref());
            }
        }
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let unchanged = table.objects.range(range).filter(|(key, _)| !before.contains_key(key));
        let wanted = |object: &&Arc<Object>| filter.matches(object);
        let mut objects: Vec<_> = unchanged.map(|(_, object)| object).filter(wanted).collect();
        if !before.is_empty() {
            objects.extend(before.range::<Key, _>(range).filter_map(|(_, object)| *object).filter(wanted));
            objects.sort_by(|one, other| one.key.cmp(&other.key));
        }
        Some(objects)
    }

    /// The next changes of a kind after a version. `None` if they are no longer all known.
    pub(crate) fn news(&self, kind: usize, after: u64) -> Option<News> {
        let table = &self.tables[kind];
        if after < table.dropped {
            return None;
        }
        let first = table.history.partition_point(|change| change.version <= after);
        let changes: Vec<Change> = table.history.range(first..).take(BATCH).cloned().collect();
        let all = first + changes.len() == table.history.len();
        let version = if all { self.version } else { changes.last().map_or(after, |change| change.version) };
        Some(News { changes, version: version.max(after) })
    }

    /// Forgets what was before. Watches that are open are served on.
    pub(crate) fn compact(&mut self) {
        self.horizon = self.version;
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { version: self.version, objects: self.tables.each_ref().map(|table| table.objects.clone()) }
    }

    /// Goes back to another moment, with no memory of what was before it.
    pub(crate) fn restore(&mut self, state: Snapshot) {
        (self.version, self.horizon) = (state.version, state.version);
        self.tables =
            state.objects.map(|objects| Table { objects, history: VecDeque::new(), dropped: state.version });
    }
}
