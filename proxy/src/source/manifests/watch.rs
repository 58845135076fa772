//! Tells which manifests changed: inotify, and what its events mean for a folder of files and links to files.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::place::Place;
use crate::links::hops;

/// Events read at once at most, so that a folder that never rests is still acted on.
const MANY: usize = 10_000;

/// One mask for everything: the same folder may be watched for several reasons.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What may have happened to manifests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file is complete: closed after writing, or moved here. The cookie tells of a move from elsewhere in the
    /// folder; 0 for none.
    Saved(Arc<Path>, u32),
    /// A file has begun to exist.
    Created(Arc<Path>),
    /// A file is no longer there under this name.
    Vanished(Arc<Path>, u32),
    /// Permissions or times changed.
    Touched(Arc<Path>),
    /// Anything may have changed: look at everything.
    All,
}

/// Watches a folder, its place in the folder above, and where its links lead.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    folder: Option<WatchDescriptor>,
    /// The folder above and this one's name in it: tells when another takes its place.
    above: Option<(WatchDescriptor, OsString)>,
    /// For each link among the manifests, where what it leads to is: a watched folder, a name in it.
    links: HashMap<Arc<Path>, Vec<(WatchDescriptor, OsString)>>,
}

impl Watch {
    /// Starts watching.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let above = above(&inotify, folder);
        let mut watch = Self { inotify, folder: None, above, links: HashMap::new() };
        watch.attach(folder)?;
        Ok(watch)
    }

    /// Watches the folder that has this path now, if it is not the one that had it before.
    pub(super) fn attach(&mut self, folder: &Path) -> io::Result<()> {
        let now = self.inotify.add_watch(folder, MASK);
        let before = std::mem::replace(&mut self.folder, now.ok());
        self.release(before.into_iter());
        now?;
        Ok(())
    }

    /// Watches what a manifest leads to if it is a link; forgets what it led to before.
    pub(super) fn follow(&mut self, file: &Arc<Path>) {
        let targets = hops(file).into_iter().filter_map(|hop| {
            let folder = self.inotify.add_watch(hop.parent()?, MASK).ok()?;
            Some((folder, hop.file_name()?.to_owned()))
        });
        let targets: Vec<_> = targets.collect();
        let before = self.links.remove(file).unwrap_or_default();
        if !targets.is_empty() {
            self.links.insert(Arc::clone(file), targets);
        }
        self.release(before.into_iter().map(|(folder, _)| folder));
    }

    /// Waits for something to happen, no longer than the timeout if there is one.
    pub(super) fn wait(&self, place: &Place, timeout: Option<Duration>) -> io::Result<Vec<Change>> {
        // Rounded up: a wait that ends too early would only be repeated.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = Vec::new();
        while events.len() < MANY {
            match self.inotify.read_events() {
                Ok(more) => events.extend(more),
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(events.iter().flat_map(|event| self.changes(place, event)).collect())
    }

    fn changes(&self, place: &Place, event: &InotifyEvent) -> Vec<Change> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return vec![Change::All];
        }
        let in_folder = self.folder == Some(event.wd);
        let Some(name) = &event.name else {
            // The folder itself was deleted, moved or unmounted; or a link's, which leads nowhere then.
            let went =
                AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_UNMOUNT;
            return if in_folder && event.mask.intersects(went) { vec![Change::All] } else { Vec::new() };
        };
        if self.above.as_ref().is_some_and(|(wd, own)| *wd == event.wd && own == name) {
            return vec![Change::All];
        }
        let mut changes = Vec::new();
        if in_folder {
            changes.extend(in_folder_change(place, name, event));
        }
        let leads_here =
            |targets: &[(_, OsString)]| targets.iter().any(|(wd, own)| *wd == event.wd && own == name);
        for (file, _) in self.links.iter().filter(|(_, targets)| leads_here(targets)) {
            changes.extend(change(event, Arc::clone(file)));
        }
        changes
    }

    /// Stops watching folders that nothing needs any more.
    fn release(&self, folders: impl Iterator<Item = WatchDescriptor>) {
        for folder in folders {
            let mut needed = self.folder.iter().chain(self.above.iter().map(|(folder, _)| folder));
            let mut linked = self.links.values().flatten().map(|(folder, _)| folder);
            if !needed.any(|other| *other == folder) && !linked.any(|other| *other == folder) {
                // It fails for a folder that was deleted: then there is nothing left to stop.
                let _ = self.inotify.rm_watch(folder);
            }
        }
    }
}

fn above(inotify: &Inotify, folder: &Path) -> Option<(WatchDescriptor, OsString)> {
    let folder: PathBuf = std::path::absolute(folder).ok()?;
    let name = folder.file_name()?.to_owned();
    // Without permission for the folder above, a replaced folder goes unnoticed; everything else works.
    let watch = inotify.add_watch(folder.parent()?, MASK).ok()?;
    Some((watch, name))
}

fn in_folder_change(place: &Place, name: &OsStr, event: &InotifyEvent) -> Option<Change> {
    // `..data` and its like are how mounted ConfigMaps switch all of their files at once.
    if name.as_encoded_bytes().starts_with(b"..") {
        return event.mask.contains(AddWatchFlags::IN_MOVED_TO).then_some(Change::All);
    }
    let manifest = place.takes(name) && !event.mask.contains(AddWatchFlags::IN_ISDIR);
    if manifest { change(event, place.path(name)) } else { None }
}

fn change(event: &InotifyEvent, file: Arc<Path>) -> Option<Change> {
    let is = |flags| event.mask.intersects(flags);
    if is(AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO) {
        Some(Change::Saved(file, event.cookie))
    } else if is(AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM) {
        Some(Change::Vanished(file, event.cookie))
    } else if is(AddWatchFlags::IN_CREATE) {
        Some(Change::Created(file))
    } else if is(AddWatchFlags::IN_ATTRIB) {
        Some(Change::Touched(file))
    } else {
        None
    }
}
