//! What the kernel knows of this process.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::Error;

/// How soon the kernel kills this process when memory is short, from -1000, never, to 1000, first. Says whether it wrote:
/// a value that is right already needs no privilege.
///
/// # Errors
/// When it may not be set so low.
pub fn set_oom_score_adj(value: i32) -> Result<bool, Error> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let read = fs::read_to_string(FILE).map_err(|source| Error::io(format!("read {FILE}"), source))?;
    if read.trim().parse() == Ok(value) {
        return Ok(false);
    }
    fs::write(FILE, value.to_string())
        .map(|()| true)
        .map_err(|source| Error::io(format!("write {value} to {FILE}"), source))
}

/// Has the kernel end a program, at once, when the thread that starts it ends, for whatever reason.
pub fn end_with_this_thread(command: &mut Command) {
    let ask = || set_pdeathsig(Signal::SIGKILL).map_err(Into::into);
    // SAFETY: between fork and exec, only a system call is made, which touches no memory of this process.
    #[allow(unsafe_code, reason = "the standard library has no safe way to do something before exec")]
    unsafe {
        command.pre_exec(ask);
    }
}
