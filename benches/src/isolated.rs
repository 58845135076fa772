//! Measurements in namespaces and processes of their own.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use testbed::isolation;

use crate::process;

/// Has this program make a measurement as root in a process and namespaces of its own, by arguments that ask for that;
/// it prints what comes of it as JSON, [figures](crate::figures::Figures) for one.
///
/// # Errors
/// When this is not root, or the measurement fails.
pub fn measure<T: DeserializeOwned>(args: &[OsString]) -> Result<T> {
    process::await_idle_machine()?;
    measure_now(args)
}

/// As [`measure`], even if the machine is busy: for measurements that take turns many times.
///
/// # Errors
/// As [`measure`].
pub fn measure_now<T: DeserializeOwned>(args: &[OsString]) -> Result<T> {
    let mut command =
        isolation::this_program_as_root(args).context("figures of a node take a node's root")?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run unshare")?;
    // Closing its input would end it.
    let _input = child.stdin.take();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the measurement {args:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}
