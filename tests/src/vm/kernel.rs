//! A kernel of Debian's, out of its package, without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Stands for the newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel to boot.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The file to boot.
    pub(super) image: PathBuf,
    /// Folder of its modules, which has its version as its name.
    pub(super) modules: PathBuf,
}

/// The kernel that is in the cache; if there is none, the newest that Debian has.
pub(super) fn obtain(cache: &Path) -> Result<Kernel> {
    let unpacked = cache.join("kernel");
    if !unpacked.exists() {
        let work = cache.join("kernel.part");
        drop(fs::remove_dir_all(&work));
        fs::create_dir_all(&work)?;
        unpack(&work)?;
        fs::rename(&work, &unpacked)?;
    }
    find(&unpacked)
}

fn find(unpacked: &Path) -> Result<Kernel> {
    let only = |folder: PathBuf, prefix: &str| -> Result<PathBuf> {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let found = paths
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
        found.with_context(|| format!("{} is broken: remove it", unpacked.display()))
    };
    Ok(Kernel {
        image: only(unpacked.join("boot"), "vmlinuz-")?,
        modules: only(unpacked.join("lib/modules"), "")?,
    })
}

fn unpack(folder: &Path) -> Result<()> {
    let depends = output(Command::new("apt-cache").args(["depends", PACKAGE]))?;
    let named = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let Some(package) = named else {
        bail!("apt knows no package {PACKAGE}: run apt-get update");
    };
    output(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(folder))
        .with_context(|| format!("cannot download {package}: run apt-get update"))?;
    let mut files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let file = file.with_context(|| format!("apt-get downloaded no file for {package}"))?;
    output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder))?;
    fs::remove_file(&file)?;
    let modules = find(folder)?.modules;
    let version = modules.file_name().context("a kernel without a version")?;
    // What Debian does when the package is installed.
    output(Command::new("depmod").arg("--basedir").arg(folder).arg(version)).map(drop)
}

/// What a program prints.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
