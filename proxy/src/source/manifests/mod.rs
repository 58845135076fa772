//! `--manifests PATH`: objects from files, followed as they are saved.
//!
//! `split` cuts text into pieces, `parse` decodes those that are new, and `inventory` tells what that changed: all
//! of it pure. `place` reads files and `watch` says which; this module is the loop around them. A save is handed on
//! as one batch. A file that cannot be read or parsed takes nothing out of force: what it held stays, and the log says
//! `file:line: reason` until it is mended.

mod head;
mod inventory;
mod parse;
mod place;
mod read;
mod split;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Event, Events, Source, Vocabulary};
use crate::links::is_link;
use inventory::Inventory;
use place::Place;
use watch::{Change, Watch};

/// Some editors move the old file away before they write the new one. A file must be gone for this long before its
/// objects go, so that such a save interrupts nothing.
const GRACE: Duration = Duration::from_millis(50);

/// Why a folder or file of manifests cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("cannot read --manifests {}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be watched.
    #[error("cannot watch --manifests {} (are fs.inotify.max_user_watches and max_user_instances too low?)", path.display())]
    Watch {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A folder of manifests, or one file, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Manifests<U> {
    place: Place,
    watch: Watch,
    inventory: Inventory<U>,
    /// Files that are no longer there: since when, and the cookie of the move that took them away.
    vanished: HashMap<Arc<Path>, (Instant, u32)>,
}

/// All that a folder of manifests, or one file, holds now, and what of it cannot be used: `file:line: reason`.
///
/// # Errors
/// When it is not there, or cannot be read.
pub(crate) fn read_once<U: Vocabulary>(path: &Path) -> io::Result<(Vec<U>, Vec<String>)> {
    let place = Place::find(path)?;
    let (mut inventory, mut all) = (Inventory::default(), Vec::new());
    for file in place.list()?.0 {
        inventory.take_first(&file, place.read(&file), &mut |updates| all.extend(updates));
    }
    let problems = inventory.take_problems().iter().map(ToString::to_string).collect();
    Ok((all, problems))
}

impl<U: Vocabulary> Manifests<U> {
    /// Begins to watch a folder of manifests, or one file.
    ///
    /// # Errors
    /// When it is not there, or cannot be read or watched.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        let place = Place::find(path).map_err(unreadable)?;
        let watch =
            Watch::start(place.folder()).map_err(|source| Error::Watch { path: path.to_owned(), source })?;
        place.list().map_err(unreadable)?;
        Ok(Self { place, watch, inventory: Inventory::default(), vanished: HashMap::new() })
    }

    /// Hands on what is there at the start, a file at a time: nothing is programmed before all of it is in.
    fn first(&mut self, events: &Events<U>) -> anyhow::Result<bool> {
        let (files, folders) = self.place.list().context("cannot list the manifests")?;
        if folders > 0 {
            tracing::warn!(folders, "sub-folders of the manifests' folder are not read");
        }
        tracing::info!(files = files.len(), "reading manifests");
        let mut listening = true;
        for file in files {
            self.watch.follow(&file);
            self.inventory.take_first(&file, self.place.read(&file), &mut |updates| {
                listening = listening && (updates.is_empty() || events.put(Event::Updates(updates)));
            });
            self.log_problems();
            if !listening {
                return Ok(false);
            }
        }
        Ok(events.put(Event::Synced))
    }

    /// The files to read after these changes, and after time has passed.
    fn dirty(&mut self, changes: Vec<Change>, now: Instant) -> BTreeSet<Arc<Path>> {
        let mut dirty = BTreeSet::new();
        let mut all = false;
        for change in changes {
            match change {
                Change::Saved(file, cookie) => {
                    // Renamed within the folder: the old name will not come back.
                    let renamed = |(_, other): &mut (Instant, u32)| cookie != 0 && *other == cookie;
                    dirty.extend(self.vanished.extract_if(|_, entry| renamed(entry)).map(|(file, _)| file));
                    self.vanished.remove(&file);
                    dirty.insert(file);
                }
                Change::Created(file) => {
                    self.vanished.remove(&file);
                    if is_link(&file) {
                        dirty.insert(file);
                    }
                }
                Change::Vanished(file, cookie) => {
                    self.vanished.insert(file, (now, cookie));
                }
                Change::Touched(file) if self.inventory.is_broken(&file) => {
                    dirty.insert(file);
                }
                Change::Touched(_) => {}
                Change::All => all = true,
            }
        }
        let gone = self.vanished.extract_if(|_, (since, _)| *since + GRACE <= now);
        dirty.extend(gone.map(|(file, _)| file));
        if all {
            self.rescan(&mut dirty);
        }
        dirty
    }

    /// Adds every file that is there or was.
    fn rescan(&mut self, dirty: &mut BTreeSet<Arc<Path>>) {
        let attached = self.watch.attach(self.place.folder());
        match attached.and_then(|()| self.place.list()) {
            Ok((files, _)) => {
                self.vanished.clear();
                dirty.extend(files);
                dirty.extend(self.inventory.files().cloned());
            }
            Err(error) => {
                let folder = self.place.folder().display();
                tracing::warn!("{folder}: cannot be read, what it held stays in force: {error}");
                self.vanished.clear();
                dirty.clear();
            }
        }
    }

    /// Reads these files; returns what that put in force.
    fn batch(&mut self, files: &BTreeSet<Arc<Path>>) -> Vec<U> {
        for file in files {
            self.watch.follow(file);
            self.inventory.take(file, self.place.read(file));
        }
        let mut settled = self.inventory.settle();
        if !settled.reread.is_empty() {
            for file in &settled.reread {
                self.inventory.retake(file, self.place.read(file));
            }
            // What a broken file holds still cannot be had: what is in force stays then.
            settled.updates.extend(self.inventory.settle().updates);
        }
        self.log_problems();
        settled.updates
    }

    fn log_problems(&mut self) {
        for problem in self.inventory.take_problems() {
            tracing::warn!("{problem}");
        }
    }
}

impl<U: Vocabulary> Source<U> for Manifests<U> {
    fn run(mut self: Box<Self>, events: &Events<U>) -> anyhow::Result<()> {
        if !self.first(events)? {
            return Ok(());
        }
        loop {
            let since = self.vanished.values().map(|(since, _)| *since).min();
            let timeout = since.map(|since| (since + GRACE).saturating_duration_since(Instant::now()));
            let changes = self.watch.wait(&self.place, timeout).context("cannot watch the manifests")?;
            let dirty = self.dirty(changes, Instant::now());
            // A save that changed no object is told of too: somebody may be waiting to see it taken in.
            if !dirty.is_empty() && !events.put(Event::Updates(self.batch(&dirty))) {
                return Ok(());
            }
        }
    }
}
