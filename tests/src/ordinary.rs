//! Programs that run as an ordinary user.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

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
}

/// A program to be run as a user.
#[must_use]
pub fn program_as(user: User, program: &Path) -> Command {
    let mut command = match user {
        User::Starter => return Command::new(program),
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
