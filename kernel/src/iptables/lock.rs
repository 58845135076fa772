//! The lock that iptables' programs take to keep out of each other's way.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{major, minor};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// Where the lock is unless `XTABLES_LOCKFILE` says otherwise.
const LOCK_FILE: &str = "/run/xtables.lock";
/// Tells a program where the lock is.
pub(super) const VARIABLE: &str = "XTABLES_LOCKFILE";
/// What a program is told to lock while we hold the lock for it: nobody else cares for a lock on it.
pub(super) const NOTHING: &str = "/dev/null";
/// How often we try.
const AGAIN: Duration = Duration::from_millis(20);

/// How it stands with the lock, for all who run the programs of a family.
#[derive(Clone, Debug, Default)]
pub(super) struct LockState {
    /// Whether we hold it.
    pub(super) ours: Arc<AtomicBool>,
    /// Whether the programs do not know [`VARIABLE`] and take the lock themselves whatever it says.
    pub(super) not_shared: Arc<AtomicBool>,
}

/// The lock. While it is held, our own runs of the same programs do not ask for it, and nobody else changes the tables.
#[derive(Debug)]
pub struct Lock {
    file: Option<Flock<File>>,
    state: LockState,
}

impl Lock {
    /// Waits for it, but not for ever. With programs that take it themselves there is nothing to hold.
    pub(super) fn take(state: LockState, wait: Duration) -> Result<Self, Error> {
        if state.not_shared.load(Ordering::Relaxed) {
            return Ok(Self { file: None, state });
        }
        let failed = |cause| Error::io("lock the tables of iptables-legacy", cause);
        let mut file = open().map_err(failed)?;
        let deadline = Instant::now() + wait;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    state.ours.store(true, Ordering::Relaxed);
                    return Ok(Self { file: Some(file), state });
                }
                Err((_, Errno::EAGAIN)) if Instant::now() >= deadline => {
                    return Err(Error::Locked { seconds: wait.as_secs(), holder: holder() });
                }
                Err((file, Errno::EAGAIN | Errno::EINTR)) => file,
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            thread::sleep(AGAIN);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.state.ours.store(false, Ordering::Relaxed);
        }
    }
}

/// As iptables opens it.
fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path())
}

fn path() -> OsString {
    env::var_os(VARIABLE).unwrap_or_else(|| LOCK_FILE.into())
}

/// Name and id of the process that holds the xtables lock at this moment, if it can be found: those of other process
/// namespaces cannot.
pub(super) fn holder() -> Option<String> {
    let file = fs::metadata(path()).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = holder_in(&locks, major(file.dev()), minor(file.dev()), file.ino())?;
    Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (process {pid})", name.trim_end()),
        Err(_) => format!("process {pid}"),
    })
}

/// The process that holds a file's lock in the sense of flock(2), from lines such as
/// `1: FLOCK  ADVISORY  WRITE 73 00:28:2 0 EOF`. Those that wait have an `->` after the number.
fn holder_in(locks: &str, major: u32, minor: u32, inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        (kind == "FLOCK" && words.next()? == file).then_some(pid)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 5 00:28:2 0 EOF
2: FLOCK  ADVISORY  WRITE 6 00:28:3 0 EOF
3: -> FLOCK  ADVISORY  WRITE 7 00:28:2 0 EOF
4: FLOCK  ADVISORY  WRITE 73 00:28:2 0 EOF
4: -> FLOCK  ADVISORY  WRITE 74 00:28:2 0 EOF
5: LEASE  BREAKER
";

    #[test]
    fn the_holder_is_told_from_those_who_wait_and_from_other_locks() {
        assert_eq!(holder_in(LOCKS, 0, 40, 2), Some(73));
        assert_eq!(holder_in(LOCKS, 8, 1, 2), None);
        assert_eq!(holder_in("6: FLOCK  ADVISORY  WRITE -1 00:28:2 0 EOF\n", 0, 40, 2), None);
    }
}
