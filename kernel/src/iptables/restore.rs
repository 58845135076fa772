//! Running scripts through `iptables-restore`.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::complaint::{self, Outcome};
use super::{Iptables, OwnProcesses, lock};
use crate::Error;

/// How much of what a program says on stderr is kept, in bytes; the rest is read and dropped.
const SAID: u64 = 64 << 10;

/// What a script is run for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To take effect.
    Commit,
    /// To be checked.
    Test,
}

impl Iptables {
    pub(super) fn run_restore(&self, script: &str, purpose: Purpose) -> Result<(), Error> {
        let wait = self.lock_wait.as_secs();
        let mut command = self.restore.command();
        command.args(["-w", &wait.to_string(), "--noflush"]);
        if purpose == Purpose::Test {
            command.arg("--test");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let holds_lock = self.lock.ours.load(Ordering::Relaxed);
        if holds_lock {
            command.env(lock::VARIABLE, lock::NOTHING);
        }
        end_with_us(&mut command);
        let program = &self.restore.name;
        let failed = |cause| Error::io(format!("run {program}"), cause);
        let mut child = command.spawn().map_err(failed)?;
        // Before it has the script, so that whoever hears of the change knows already that it is ours.
        for processes in [&self.own, &OwnProcesses::of_this_program()] {
            processes.register(child.id(), program);
        }
        let (fed, said) = converse(&mut child, script);
        let status = child.wait().map_err(failed)?;
        if status.success() {
            fed.map_err(failed)?;
            note(program, &said);
            return Ok(());
        }
        let outcome = Outcome { program, script, said: &said, status };
        if holds_lock && outcome.tells_of_lock() {
            // It is too old to know where to look for its lock, and waited for ours.
            self.lock.not_shared.store(true, Ordering::Relaxed);
        }
        Err(match outcome.tells_of_lock() {
            true => Error::Locked { seconds: wait, holder: lock::holder() },
            false => complaint::error(&outcome),
        })
    }
}

/// Has a program ended when we are: one that outlived us would make a change that whoever comes next knows nothing of.
fn end_with_us(command: &mut Command) {
    #[allow(unsafe_code, reason = "there is no other way to ask for a signal on our end")]
    // SAFETY: what runs between fork and exec is one system call, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
}

/// Writes a script to a program's stdin while reading what it says, so that neither waits for the other.
fn converse(child: &mut Child, script: &str) -> (io::Result<()>, String) {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    thread::scope(|scope| {
        let reader = scope.spawn(|| stderr.map(read_bounded).unwrap_or_default());
        // Closed at the end of the statement: the program waits for the end of its script.
        let fed = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
        (fed, reader.join().unwrap_or_default())
    })
}

/// What a program says until it ends.
pub(super) fn read_bounded(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    // A pipe that fails has ended too; the exit status tells what matters.
    let _ = stderr.by_ref().take(SAID).read_to_end(&mut said);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&said).into_owned()
}

/// Leaves a trace of what a program said though all went well.
pub(super) fn note(program: &str, said: &str) {
    if !said.trim().is_empty() {
        tracing::debug!(program, said = said.trim(), "a warning of iptables");
    }
}
