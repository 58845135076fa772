//! The floor: `iptables-restore` fed with the same text by nothing but a pipe.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use modes::iptables::Backend;

/// The program's name.
pub(crate) fn program(backend: Backend) -> String {
    format!("iptables-{backend}-restore")
}

/// Runs scripts one after the other. Returns how long that takes.
pub(crate) fn restore(backend: Backend, scripts: &[String]) -> Result<Duration> {
    let started = Instant::now();
    scripts.iter().try_for_each(|script| run(backend, script))?;
    Ok(started.elapsed())
}

fn run(backend: Backend, script: &str) -> Result<()> {
    let program = program(backend);
    let mut command = Command::new(&program);
    command.arg("--noflush").env("LC_ALL", "C").stdin(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    ensure!(child.wait()?.success(), "{program} failed");
    Ok(())
}
