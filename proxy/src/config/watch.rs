//! Tells when a configuration file has another content: inotify on its folder, and on those that its links lead through.
//!
//! A mounted ConfigMap never changes the file that it has under a name: the name is a link to a link, and it is that
//! one, in the same folder, which is replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::links::{hops, is_link};

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
        watch.content = fs::read(&watch.file).ok();
        Ok(watch)
    }

    /// Watches all folders that the name leads through now; those of links that were replaced are gone, or do no harm.
    fn attach(&self) -> io::Result<()> {
        let names = std::iter::once(self.file.clone()).chain(hops(&self.file));
        for folder in names.filter_map(|name| name.parent().map(Path::to_owned)) {
            match self.inotify.add_watch(&folder, MASK) {
                // A link that leads nowhere, at the moment.
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
            if let Ok(content) = fs::read(&self.file)
                && self.content.as_ref() != Some(&content)
            {
                self.content = Some(content);
                return Ok(());
            }
        }
    }
}
