//! Finding the programs of iptables.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Backend;
use crate::Error;

/// Where administrators' programs are, should `PATH` lack it.
const ADMINISTRATORS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// A program that was found.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Its file's name.
    pub(super) name: String,
    path: PathBuf,
}

impl Program {
    /// The `restore` or `save` of a back end and family.
    pub(super) fn find(backend: Backend, ipv6: bool, verb: &str) -> Result<Self, Error> {
        let family = if ipv6 { "ip6tables" } else { "iptables" };
        let suffixed = format!("{family}-{backend}-{verb}");
        if let Some(program) = Self::named(&suffixed) {
            return Ok(program);
        }
        Self::named(&format!("{family}-{verb}"))
            .filter(|plain| plain.is_of(backend))
            .ok_or(Error::NoProgram { program: suffixed })
    }

    fn named(name: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(ADMINISTRATORS.map(PathBuf::from));
        let found = folders.map(|folder| folder.join(name)).find(|file| is_executable(file))?;
        Some(Self { name: name.to_owned(), path: found })
    }

    /// Whether it says so itself: `iptables-restore v1.8.9 (nf_tables)`.
    fn is_of(&self, backend: Backend) -> bool {
        let told = self.command().arg("--version").stdin(Stdio::null()).output();
        told.is_ok_and(|output| said_by(backend, &String::from_utf8_lossy(&output.stdout)))
    }

    /// To be run with arguments that are still to be given; it speaks English.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("LC_ALL", "C");
        command
    }
}

fn said_by(backend: Backend, version: &str) -> bool {
    version.contains(match backend {
        Backend::Nft => "(nf_tables)",
        Backend::Legacy => "(legacy)",
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_program_tells_its_back_end() {
        assert!(said_by(Backend::Nft, "iptables-restore v1.8.9 (nf_tables)\n"));
        assert!(said_by(Backend::Legacy, "iptables-restore v1.8.9 (legacy)\n"));
        assert!(!said_by(Backend::Nft, "iptables-restore v1.8.9 (legacy)\n"));
        assert!(!said_by(Backend::Legacy, "iptables-restore v1.6.1\n"));
    }

    #[test]
    fn the_missing_program_is_named_with_its_package() {
        let error = Program::find(Backend::Nft, true, "nonsense").unwrap_err().to_string();
        assert_eq!(error, "ip6tables-nft-nonsense is not installed: install the package iptables");
    }
}
