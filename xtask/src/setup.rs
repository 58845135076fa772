//! What the chores need besides Rust, in one place, with the reason of each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;

/// Debian packages, and what needs them.
const PACKAGES: [(&str, &str); 16] = [
    ("binutils", "what the virtual machine runs is stripped"),
    ("bird2", "the pod network speaks BGP by BIRD"),
    ("busybox-static", "the virtual machine's shell"),
    ("chromium-headless-shell", "tests look at the status page in a real browser"),
    ("conntrack", "tests look at which flows are tracked"),
    ("containernetworking-plugins", "our CNI plugins are run together with the reference ones"),
    ("faketime", "tests let the clock jump"),
    ("fonts-dejavu-core", "the browser has nothing to write with otherwise"),
    ("iproute2", "the test-bed joins namespaces by veth pairs and routes with `ip`"),
    ("ipset", "tests compare the sets that were programmed with what `ipset` lists, and damage them"),
    ("iptables", "tests run the iptables mode on both its back ends, and damage its rules"),
    ("ipvsadm", "tests of the IPVS mode list and damage its services, in the virtual machine"),
    ("kmod", "the virtual machine loads modules"),
    ("nftables", "tests add foreign rules, and show the ruleset when they fail, with `nft`"),
    ("qemu-system-x86", "suites run once more in a virtual machine, on Debian's kernel"),
    ("util-linux", "tests enter namespaces of their own with `unshare`"),
];

/// Debian packages that one benchmark measures beside, and nothing else needs.
const PROXIES: [(&str, &str); 3] = [
    ("haproxy", "the benchmark of the userspace mode measures beside it"),
    ("libnginx-mod-stream", "so it does beside nginx's stream module"),
    ("nginx-light", "which takes nginx"),
];

/// What keeps Debian packages from starting their services while they are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The release of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Checks the Debian packages; as root, installs those that are missing.
pub(crate) fn packages() -> Result<()> {
    install(&PACKAGES)
}

/// The same for the proxies that are measured beside. Their services are not started.
pub(crate) fn proxies() -> Result<()> {
    let forbidden = Path::new(POLICY).exists();
    let root = is_root();
    if root && !forbidden {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
    }
    let installed = install(&PROXIES);
    if root && !forbidden {
        fs::remove_file(POLICY)?;
    }
    installed
}

fn install(packages: &[(&str, &str)]) -> Result<()> {
    if shell::ask("dpkg-query", &["--version"]).is_none() {
        let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
        eprintln!("No Debian here: make sure that you have what Debian calls {}.", names.join(", "));
        return Ok(());
    }
    let missing: Vec<_> = packages.iter().filter(|(name, _)| !installed(name)).collect();
    for (name, reason) in &missing {
        eprintln!("Missing: {name} ({reason}).");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if names.is_empty() {
        eprintln!("Every Debian package that is needed is installed.");
        return Ok(());
    }
    if !is_root() {
        bail!("run this as root, then again what you ran now: apt-get install {}", names.join(" "));
    }
    shell::run("apt-get", &["update", "--quiet"])?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    shell::run("apt-get", &[&install[..], &names].concat())
}

fn is_root() -> bool {
    shell::ask("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

/// Builds cargo-deny if it is missing. The first time takes some minutes.
pub(crate) fn cargo_deny() -> Result<()> {
    if shell::ask("cargo", &["deny", "--version"]).is_some() {
        return Ok(());
    }
    shell::cargo(&["install", "--locked", CARGO_DENY], &[])
}

fn installed(package: &str) -> bool {
    let state = shell::ask("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package]);
    state.is_some_and(|state| state == "installed")
}
