//! Programs put in front of the real `iptables-restore` and its kin, which keep the scripts they are fed and can spoil
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use testbed::{Backend, Family, Iptables, Subject};

/// The folder of those programs, and of what they keep.
pub(crate) struct Restores {
    folder: TempDir,
}

/// A script that was run.
#[derive(Debug)]
pub(crate) struct Script {
    /// By which program.
    pub(crate) program: String,
    /// What it says, as it was handed on.
    pub(crate) text: String,
}

impl Restores {
    /// Puts them in front of the real ones, for a proxy that is started from now on.
    pub(crate) fn put_in_front(s: &mut Subject) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for programs")?;
        fs::create_dir(folder.path().join("scripts"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        for backend in Backend::BOTH {
            for family in Family::BOTH {
                let program = Iptables { node: &s.bed.node, backend, family }.program("-restore");
                let file = folder.path().join(&program);
                fs::write(&file, wrapper(folder.path(), &program, &real(&path, &program)?))?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            }
        }
        s.environment("PATH", format!("{}:{path}", folder.path().display()));
        Ok(Self { folder })
    }

    /// What was run since they were last forgotten, in order. What only was to be checked is not there.
    pub(crate) fn scripts(&self) -> Result<Vec<Script>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("scripts"))? {
            files.push(entry?.path());
        }
        files.sort();
        let read = |file: PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let program = name.split_once('_').map(|(_, program)| program.to_owned()).unwrap_or_default();
            Ok(Script { program, text: fs::read_to_string(&file)? })
        };
        files.into_iter().map(read).collect()
    }

    /// Forgets what was run so far.
    pub(crate) fn forget(&self) -> Result<()> {
        let folder = self.folder.path().join("scripts");
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Edits every script from now on, by commands of `sed`.
    pub(crate) fn spoil(&self, commands: &str) -> Result<()> {
        let new = self.folder.path().join("edit.new");
        fs::write(&new, commands)?;
        Ok(fs::rename(new, self.edit())?)
    }

    /// Hands scripts on as they are again.
    pub(crate) fn repair(&self) -> Result<()> {
        Ok(fs::remove_file(self.edit())?)
    }

    fn edit(&self) -> PathBuf {
        self.folder.path().join("edit")
    }
}

/// A file appears among the scripts when it is whole, under a name that says when. `exec` keeps the process the same.
fn wrapper(folder: &Path, program: &str, real: &Path) -> String {
    let (folder, real) = (folder.display(), real.display());
    format!(
        "#!/bin/sh\n\
         part=$(mktemp '{folder}/part.XXXXXXXXXX') || exit 99\n\
         if [ -e '{folder}/edit' ]; then sed -f '{folder}/edit' > \"$part\"; else cat > \"$part\"; fi\n\
         exec < \"$part\"\n\
         case \" $* \" in\n\
         *' --test '*) rm \"$part\" ;;\n\
         *) mv \"$part\" \"{folder}/scripts/$(date +%s%N)_{program}\" ;;\n\
         esac\n\
         exec {real} \"$@\"\n"
    )
}

fn real(path: &str, program: &str) -> Result<PathBuf> {
    let folders = std::env::split_paths(path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("there is no {program}: apt-get install iptables"))
}
