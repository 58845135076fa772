//! What `--manifests` names: a folder of files, or one file. Listing and reading, nothing else.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inventory::Content;

/// A larger file is refused: it is a mistake, and would fill memory.
const LARGEST: u64 = 64 << 20;

/// A folder of manifests, or one manifest in a folder.
#[derive(Debug)]
pub(super) struct Place {
    given: PathBuf,
    folder: PathBuf,
    /// The only file to read, if it was named.
    only: Option<OsString>,
}

impl Place {
    /// Looks at what is there.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Ok(Self { given: path.to_owned(), folder: path.to_owned(), only: None });
        }
        if !metadata.is_file() {
            return Err(io::Error::other("neither a folder nor a regular file"));
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let only = path.file_name().map(OsStr::to_owned);
        Ok(Self { given: path.to_owned(), folder: folder.to_owned(), only })
    }

    /// The folder that the files are in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a file of this name in the folder is a manifest.
    pub(super) fn takes(&self, name: &OsStr) -> bool {
        if let Some(only) = &self.only {
            return name == only;
        }
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let extension = Path::new(name).extension().and_then(OsStr::to_str);
        !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
    }

    /// The path of a file, as messages name it.
    pub(super) fn path(&self, name: &OsStr) -> Arc<Path> {
        let path = if self.only.is_some() { self.given.clone() } else { self.given.join(name) };
        path.into()
    }

    /// The manifests that are there now, sorted, and how many sub-folders are not looked into.
    pub(super) fn list(&self) -> io::Result<(Vec<Arc<Path>>, usize)> {
        if let Some(name) = &self.only {
            return Ok((vec![self.path(name)], 0));
        }
        let (mut files, mut folders) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                folders += usize::from(!name.as_encoded_bytes().starts_with(b"."));
            } else if self.takes(&name) {
                files.push(self.path(&name));
            }
        }
        files.sort();
        Ok((files, folders))
    }

    /// What a file holds now.
    pub(super) fn read(&self, file: &Path) -> Content {
        match read(file) {
            Ok(bytes) => text(bytes),
            // The file that the command line names is missed; one in a folder may come and go.
            Err(error) if error.kind() == ErrorKind::NotFound && self.only.is_none() => Content::Gone,
            Err(error) => {
                Content::Unreadable(format!("cannot be read, what it held stays in force: {error}"))
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would block until somebody writes to it.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("larger than {} MiB, split it", LARGEST >> 20)));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> Content {
    String::from_utf8(bytes).map_or_else(
        |error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            Content::Unreadable(format!("not UTF-8 (line {line}), what it held stays in force"))
        },
        Content::Text,
    )
}
