//! Archives that a kernel unpacks into its first file system (`cpio`, format `newc`; see the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;

/// An archive under construction. Folders above what is put in are put in too; what is there already is left.
pub(super) struct Archive {
    output: BufWriter<File>,
    present: BTreeSet<PathBuf>,
}

impl Archive {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { output: BufWriter::new(file), present: BTreeSet::new() })
    }

    pub(super) fn folder(&mut self, path: &Path) -> Result<()> {
        if path.parent().is_none() || self.present.contains(path) {
            return Ok(());
        }
        self.put(path, FOLDER, &[])
    }

    pub(super) fn link(&mut self, path: &Path, to: &str) -> Result<()> {
        self.put(path, LINK, to.as_bytes())
    }

    pub(super) fn text(&mut self, path: &Path, text: &str, executable: bool) -> Result<()> {
        self.put(path, FILE | if executable { 0o755 } else { 0o644 }, text.as_bytes())
    }

    /// Puts in a file of the host's, or what it links to, under another name.
    pub(super) fn file(&mut self, path: &Path, from: &Path) -> Result<()> {
        let read = || -> io::Result<_> { Ok((fs::metadata(from)?.permissions().mode(), fs::read(from)?)) };
        let (mode, content) = read().with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, FILE | (mode & 0o777), &content)
    }

    /// Puts in a folder with all that is in it and that is wanted, links as links.
    pub(super) fn tree(&mut self, path: &Path, from: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let (inside, outside) = (path.join(entry.file_name()), entry.path());
            if !wanted(&outside) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&inside, &outside, wanted)?;
            } else if kind.is_symlink() {
                self.link(&inside, &fs::read_link(&outside)?.to_string_lossy())?;
            } else {
                self.file(&inside, &outside)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.output.flush()?)
    }

    fn put(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if let Some(above) = path.parent() {
            self.folder(above)?;
        }
        if self.present.insert(path.to_owned()) {
            let name = path.to_string_lossy();
            self.entry(name.trim_start_matches('/'), mode, content)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        // Magic, inode, mode, owner, group, links, time, size, device (2), special device (2), length of the name with
        // its terminating zero, check sum.
        let (size, name_length, inode) = (content.len(), name.len() + 1, self.present.len());
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}\
             {name_length:08x}{0:08x}",
            0, 1
        );
        self.output.write_all(header.as_bytes())?;
        self.output.write_all(name.as_bytes())?;
        self.output.write_all(&[0])?;
        self.pad(header.len() + name_length)?;
        self.output.write_all(content)?;
        self.pad(size)
    }

    /// Everything begins at a multiple of four bytes.
    fn pad(&mut self, after: usize) -> io::Result<()> {
        self.output.write_all(&[0; 3][..after.next_multiple_of(4) - after])
    }
}
