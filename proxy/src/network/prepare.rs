//! What takes more privileges than the work itself, or another file system: done once, by `--init-only`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

use crate::cli::NetworkFlags;

/// The CNI plugins, which are where this program is.
const PLUGINS: [&str; 2] = ["pointsman-cni", "pointsman-ipam"];

/// Has the node forward what pods send, and puts the CNI plugins where container runtimes look for them.
///
/// # Errors
/// When the kernel refuses, or a file cannot be written.
pub(crate) fn initialise(flags: &NetworkFlags) -> anyhow::Result<()> {
    if let Some(folder) = &flags.pod_network_install {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        install(program.parent().unwrap_or(Path::new("/")), folder)?;
    }
    if flags.pod_network.backend().is_none() {
        return Ok(());
    }
    kernel::sysctl::set("net.ipv4.ip_forward", "1")?;
    // A kernel may have no IPv6.
    let ipv6 = "net.ipv6.conf.all.forwarding";
    if kernel::sysctl::get(ipv6).is_ok() {
        kernel::sysctl::set(ipv6, "1")?;
    }
    Ok(())
}

/// Puts the plugins of a folder into another. One that is running goes on as it is.
fn install(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in PLUGINS {
        let place = to.join(name);
        replace(&from.join(name), &place)
            .with_context(|| format!("cannot put {name} into {}", to.display()))?;
        tracing::info!(file = %place.display(), "the CNI plugin is installed");
    }
    Ok(())
}

fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
    let draft = to.with_extension(std::process::id().to_string());
    let written = fs::copy(from, &draft)
        .and_then(|_| fs::set_permissions(&draft, Permissions::from_mode(0o755)))
        .and_then(|()| File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, to));
    if written.is_err() {
        // It may never have been there.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("opt/cni/bin"));
        fs::create_dir(&from).unwrap();
        let error = install(&from, &to).unwrap_err();
        assert!(format!("{error:#}").contains("pointsman-cni"), "{error:#}");
        for text in ["old", "new"] {
            for name in PLUGINS {
                fs::write(from.join(name), text).unwrap();
            }
            install(&from, &to).unwrap();
            assert_eq!(fs::read_to_string(to.join("pointsman-cni")).unwrap(), text);
        }
        let mode = fs::metadata(to.join("pointsman-ipam")).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read_dir(&to).unwrap().count()), (0o755, 2));
    }
}
