//! The lock that whoever edits ports holds. The kernel lets go of it when its holder ends, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::attach::Error;

const FOLDER: &str = "/run/pointsman";
const FILE: &str = "/run/pointsman/hostport.lock";

/// The lock, while it is held: some hundred microseconds.
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits for it.
    pub(super) fn take() -> Result<Self, Error> {
        let failed = |cause: io::Error| Error::Lock { path: FILE.to_owned(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(FOLDER).map_err(failed)?;
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(FILE);
        let mut file = opened.map_err(failed)?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((file, Errno::EINTR)) => file,
                Err((_, errno)) => return Err(failed(errno.into())),
            };
        }
    }
}
