//! The unix socket at which `pointsman status` asks.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// For the user that the process runs as.
const OWN: u32 = 0o600;
const OWN_FOLDER: u32 = 0o700;

/// A socket to answer at. Its file goes with it, unless another process has put its own there.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens. A file that a dead process left is replaced.
    ///
    /// # Errors
    /// When another process answers there, or the place is not ours to use.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<(Self, UnixListener)> {
        match UnixStream::connect(path).map_err(|error| error.kind()) {
            Ok(_) => bail!("another pointsman answers at {}", path.display()),
            Err(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => bail!("cannot answer at {}: {error}", path.display()),
        }
        let listen = || {
            make_folder(path)?;
            // Nobody sees it before it is the user's alone.
            let draft = path.with_extension(std::process::id().to_string());
            let listener = UnixListener::bind(&draft)?;
            let placed = place(&draft, path);
            if placed.is_err() {
                // It may be gone already.
                let _ = fs::remove_file(&draft);
            }
            Ok::<_, io::Error>((Self { path: path.to_path_buf(), inode: placed? }, listener))
        };
        listen().with_context(|| format!("cannot answer at {}", path.display()))
    }
}

/// Moves a socket to its place, unless something else than a socket is there. Returns its inode.
fn place(draft: &Path, path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::FileTypeExt;
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    fs::set_permissions(draft, Permissions::from_mode(OWN))?;
    let inode = fs::symlink_metadata(draft)?.ino();
    fs::rename(draft, path)?;
    Ok(inode)
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), |folder| fs::DirBuilder::new().recursive(true).mode(OWN_FOLDER).create(folder))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            // It is replaced by the next process otherwise.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_users_alone_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/p.sock");
        let (socket, _listener) = Socket::bind(&path).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (OWN, OWN_FOLDER));
        drop(socket);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_processes_file_is_replaced_and_a_live_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_socket, listener) = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("another pointsman answers"), "{error}");
        drop(listener);
        let (_new, _listener) = Socket::bind(&path).unwrap();
        drop(_socket);
        assert!(path.exists(), "it is the new one's");
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        fs::write(&path, "mine").unwrap();
        let error = format!("{:#}", Socket::bind(&path).unwrap_err());
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
