//! Running a program in namespaces of its own: user, network, mount and process.
//!
//! Namespaces can only be left for new ones by a process with a single thread, so the program is started again, under
//! `unshare`. It is the first process of its process namespace: when it ends, for whatever reason, the kernel ends
//! everything it started and takes the network namespaces down. It ends itself when its standard input closes, which
//! happens when whoever started it ends, even by kill -9.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

/// As whom a program runs in its namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// As root of a user namespace, where one is to be had: takes no privileges.
    #[default]
    Namespace,
    /// As the machine's root, with the privileges that a daemon on a node has.
    Machine,
}

const MARKER: &str = "POINTSMAN_ISOLATED";
/// Where named network namespaces are, and everything else that must not outlive the program.
const RUN: &str = "/run";

/// Whether this process runs in namespaces of its own already.
#[must_use]
pub fn is_isolated() -> bool {
    std::env::var_os(MARKER).is_some()
}

/// This program once more, to be run in namespaces of its own, as whom it must. Keep its standard input open as long as
/// it may run.
///
/// # Errors
/// As [`this_program`] and [`this_program_as_root`].
pub fn this_program_as(privileges: Privileges, args: &[OsString]) -> Result<Command> {
    match privileges {
        Privileges::Namespace => this_program(args),
        Privileges::Machine => this_program_as_root(args),
    }
}

/// This program once more, to be run in namespaces of its own. Keep its standard input open as long as it may run.
///
/// # Errors
/// When namespaces are not to be had, with what to do about it.
pub fn this_program(args: &[OsString]) -> Result<Command> {
    let own_user_namespace = user_namespaces_work();
    if !own_user_namespace && !geteuid().is_root() {
        bail!(
            "user namespaces are forbidden here: run as root, or allow them \
             (sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000)"
        );
    }
    isolated(args, own_user_namespace)
}

/// As [`this_program`], but still as the machine's root, with the privileges that a daemon on a node has: larger
/// socket buffers, for one.
///
/// # Errors
/// When this is not root.
pub fn this_program_as_root(args: &[OsString]) -> Result<Command> {
    if !geteuid().is_root() {
        bail!("run this as root");
    }
    isolated(args, false)
}

fn isolated(args: &[OsString], own_user_namespace: bool) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new("unshare");
    if own_user_namespace {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(program).args(args).env(MARKER, "1").stdin(Stdio::piped());
    // What is left there goes with the mount of `settle`.
    command.env("TMPDIR", RUN);
    // Errors tell their story by their chain of causes.
    command.env("RUST_LIB_BACKTRACE", "0");
    Ok(command)
}

fn user_namespaces_work() -> bool {
    static WORK: OnceLock<bool> = OnceLock::new();
    *WORK.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--mount", "true"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}

/// Makes the namespaces fit to be used: a place for named network namespaces, loopback up, and an end when the parent
/// goes. To be called first in a program started by [`this_program`].
///
/// # Errors
/// When the mount is refused or `ip` is missing.
pub fn settle() -> Result<()> {
    thread::spawn(|| {
        let mut stdin = std::io::stdin();
        while stdin.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(125);
    });
    mount(Some("tmpfs"), RUN, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .context("cannot mount a tmpfs of our own on /run")?;
    let lo = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match lo.context("cannot run ip: apt-get install iproute2")?.success() {
        true => Ok(()),
        false => bail!("cannot bring loopback up in a new network namespace"),
    }
}
