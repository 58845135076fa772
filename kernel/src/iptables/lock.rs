//! Who holds the lock that iptables' programs take to keep out of each other's way.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;

use libc::{major, minor};

/// Where the lock is unless `XTABLES_LOCKFILE` says otherwise.
const LOCK_FILE: &str = "/run/xtables.lock";

/// Name and id of the process that holds the xtables lock at this moment, if it can be found: those of other process
/// namespaces cannot.
pub(super) fn holder() -> Option<String> {
    let file = env::var_os("XTABLES_LOCKFILE").unwrap_or_else(|| LOCK_FILE.into());
    let file = fs::metadata(file).ok()?;
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
