//! Tells when a configuration file has another content: inotify on the file, on its folder, and on those that links lead
//! through.
//!
//! A mounted ConfigMap never changes the file that it has under a name: the name is a link to a link, and it is that
//! one, in the same folder, which is replaced.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::load::read_bytes;
use crate::links::{hops, is_link};

/// A file that is mounted by itself is written in place, and its folder hears nothing of that.
const OWN_MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE;

/// A file is whole when it is closed after writing, or moved here; a link at once.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Calls `changed` on a thread of its own: once at the beginning, since the file may have changed before it was watched,
/// and whenever it has another content; until it says false.
///
/// # Errors
/// When the folder cannot be watched.
pub(crate) fn watch(file: &Path, mut changed: impl FnMut() -> bool + Send + 'static) -> anyhow::Result<()> {
    let mut watch = Watch::start(file).with_context(|| format!("cannot watch {}", file.display()))?;
    let listen = move || {
        let error = loop {
            if !changed() {
                return;
            }
            if let Err(error) = watch.wait() {
                break error;
            }
        };
        tracing::error!("changes of {} are not noticed any longer: {error}", watch.file.display());
    };
    thread::Builder::new().name("configuration".to_owned()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}

struct Watch {
    inotify: Inotify,
    file: PathBuf,
    /// What was last seen; nothing if it could not be read.
    content: Option<Vec<u8>>,
}

impl Watch {
    fn start(file: &Path) -> io::Result<Self> {
        let mut watch = Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
            file: std::path::absolute(file)?,
            content: None,
        };
        watch.attach()?;
        watch.content = read_bytes(&watch.file).ok();
        Ok(watch)
    }

    /// Watches all that the name leads through now; what was replaced is gone, or does no harm.
    fn attach(&self) -> io::Result<()> {
        self.add(&self.file, OWN_MASK)?;
        // A folder on the way may be a link that is replaced.
        let links = self.file.ancestors().skip(1).filter(|folder| folder.is_symlink());
        let names = std::iter::once(self.file.clone()).chain(hops(&self.file));
        let names = names.chain(links.map(Path::to_owned));
        names
            .filter_map(|name| name.parent().map(Path::to_owned))
            .try_for_each(|folder| self.add(&folder, MASK))
    }

    fn add(&self, path: &Path, mask: AddWatchFlags) -> io::Result<()> {
        match self.inotify.add_watch(path, mask) {
            // It leads nowhere at the moment.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the content is another.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // A new file is empty until it has been written.
            let is_whole = events
                .iter()
                .any(|event| !event.mask.contains(AddWatchFlags::IN_CREATE) || is_link(&self.file));
            if !is_whole {
                continue;
            }
            self.attach()?;
            // One that is gone is about to be replaced.
            if let Ok(content) = read_bytes(&self.file)
                && self.content.as_ref() != Some(&content)
            {
                self.content = Some(content);
                return Ok(());
            }
        }
    }
}
