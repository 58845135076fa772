//! Network namespaces: opened by path, told apart, and entered (`linux/nsfs.h`, setns(2)).
//!
//! Whoever names a namespace may name anything: what is opened is only taken for one when the kernel says that it is.
//! A namespace lives as long as a process is in it, or a file of it is open or mounted: a path may stay behind as an
//! ordinary file when its mount is gone.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{io, thread};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::Error;

/// `NS_GET_NSTYPE`
const GET_TYPE: libc::Ioctl = 0xb703;
/// The namespace of the thread that looks.
const OURS: &str = "/proc/thread-self/ns/net";

/// Why a path is no network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// There is nothing, or no longer a namespace: what is left when one is gone is an ordinary file, if anything.
    #[error("network namespace {path} is gone")]
    Gone {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is a namespace of another kind.
    #[error("{path} is a namespace, but not one of networks")]
    OfAnotherKind {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be opened or looked at.
    #[error("cannot open network namespace {path}: {cause}")]
    Io {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// What tells a namespace from all others that there are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device of the file.
    pub device: u64,
    /// Its inode. Those of namespaces that are gone are used again.
    pub inode: u64,
}

/// A network namespace, which lives as long as this.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens a namespace: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When there is none there.
    pub fn open(path: &Path) -> Result<Self, NotOpened> {
        let failed = |cause: io::Error| NotOpened::Io { path: path.to_owned(), cause };
        // A path that leads to a pipe must not hold us up.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = opened.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                NotOpened::Gone { path: path.to_owned() }
            }
            _ => failed(cause),
        })?;
        let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(NotOpened::Gone { path: path.to_owned() });
        }
        match kind_of(&file).map_err(failed)? {
            libc::CLONE_NEWNET => Ok(Self { file, path: path.to_owned() }),
            _ => Err(NotOpened::OfAnotherKind { path: path.to_owned() }),
        }
    }

    /// The namespace that this thread is in.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self, NotOpened> {
        Self::open(Path::new(OURS))
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from others.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn identity(&self) -> Result<Identity, Error> {
        let metadata = self.file.metadata();
        let metadata =
            metadata.map_err(|cause| Error::io(format!("look at {}", self.path.display()), cause))?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Runs a closure on a thread that is in this namespace. Sockets that it opens stay there, wherever they are used
    /// from; `/proc/sys/net` is that of the namespace for the thread alone.
    ///
    /// # Errors
    /// When the namespace may not be entered, or there can be no thread.
    ///
    /// # Panics
    /// When the closure does.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let operation = || format!("enter network namespace {}", self.path.display());
        thread::scope(|scope| {
            let enter_and_run = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| Error::from_errno(operation(), errno, None))?;
                Ok(body())
            };
            let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, enter_and_run);
            let thread = thread.map_err(|cause| Error::io("start a thread", cause))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What tells the namespace at a path from others; `None` where there is none now. It is not opened.
#[must_use]
pub fn identity_at(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino() })
}

/// Of which kind a namespace is, as clone(2) calls it.
fn kind_of(file: &File) -> io::Result<libc::c_int> {
    #[allow(unsafe_code, reason = "nix offers no NS_GET_NSTYPE")]
    // SAFETY: the request takes no argument and touches no memory of ours; the descriptor is open.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), GET_TYPE) };
    nix::errno::Errno::result(kind).map_err(io::Error::from)
}
