//! Files that are links: mounted ConfigMaps and Secrets are.

use std::fs;
use std::path::{Path, PathBuf};

/// As far as the kernel follows.
const LONGEST: usize = 40;

/// Whether a name that just appeared has its content already: a link is complete, a new file is yet to be written.
pub(crate) fn is_link(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

/// The names to watch for whatever stands behind a symbolic link: every further link of the chain, and the file.
pub(crate) fn hops(file: &Path) -> Vec<PathBuf> {
    let mut hops: Vec<PathBuf> = Vec::new();
    while hops.len() < LONGEST {
        let at = hops.last().map_or(file, PathBuf::as_path);
        let Ok(target) = fs::read_link(at) else { break };
        let folder = at.parent().unwrap_or(Path::new("."));
        let next = folder.join(target);
        hops.push(next);
    }
    hops
}
