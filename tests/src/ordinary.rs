//! Programs that run as somebody else than whoever starts them: an ordinary user, or root of a container.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

/// `nobody`, on every Linux.
const NOBODY: &str = "65534";
/// Some user of a user namespace.
const SOMEBODY: &str = "1000";

/// As whom a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum User {
    /// As whoever starts it.
    #[default]
    Starter,
    /// As an ordinary user, without any privilege over the network namespace that it runs in.
    Ordinary,
    /// As root of a container that has these capabilities and no others, and can get none (`no_new_privs`). Names are
    /// Kubernetes': `NET_ADMIN`. In a user namespace they count within it, which is where the bed's network namespaces
    /// belong.
    Container(&'static [&'static str]),
}

/// A program to be run as a user.
#[must_use]
pub fn program_as(user: User, program: &Path) -> Command {
    let mut command = match user {
        User::Starter => return Command::new(program),
        User::Container(capabilities) => return contained(capabilities, program),
        User::Ordinary if !geteuid().is_root() => return Command::new(program),
        User::Ordinary => Command::new(if there_is_nobody() { "setpriv" } else { "unshare" }),
    };
    if there_is_nobody() {
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
    } else {
        // Where we are root of a user namespace that has no other users, there can be one in a namespace below: the
        // network namespace is not that one's.
        command.args(["--user", "--map-user", SOMEBODY, "--map-group", SOMEBODY]);
    }
    command.arg("--").arg(program);
    command
}

/// What root may do once it has been executed is what the bounding set has.
fn contained(capabilities: &[&str], program: &Path) -> Command {
    let bounding = capabilities.iter().fold("-all".to_owned(), |set, name| set + ",+" + &name.to_lowercase());
    let mut command = Command::new("setpriv");
    command.args([format!("--bounding-set={bounding}"), "--inh-caps=-all".to_owned()]);
    command.args(["--ambient-caps=-all", "--no-new-privs", "--"]).arg(program);
    command
}

/// Makes kernel parameters read-only for this process and those it starts, as they are in a container that is not
/// privileged.
///
/// # Errors
/// When the mount is refused.
pub fn read_only_sysctls() -> Result<()> {
    const SYSCTLS: &str = "/proc/sys";
    let (bind, none) = (MsFlags::MS_BIND, None::<&str>);
    mount(Some(SYSCTLS), SYSCTLS, none, bind, none).context("cannot mount /proc/sys on itself")?;
    mount(none, SYSCTLS, none, bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
        .context("cannot make /proc/sys read-only")
}

/// Whether this process can become `nobody`.
fn there_is_nobody() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        let tried = Command::new("setpriv")
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "true"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}
