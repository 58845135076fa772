//! The machine, and what programs may use of it.

use std::fs;
use std::process::Command;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::subject::Limits;

/// Idle connections that are wished for.
const CONNECTIONS: usize = 10_000;
/// Descriptors that a proxy needs for other things than connections.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// Raises the limit of descriptors as far as it goes, for all that is started from here, and says what it allows.
pub(crate) fn limits() -> Result<Limits> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // A connection takes two of them.
    let fit = usize::try_from(hard.saturating_sub(OTHER_DESCRIPTORS) / 2)?;
    Ok(Limits {
        workers: std::thread::available_parallelism()?.get(),
        descriptors: hard,
        connections: fit.min(CONNECTIONS),
    })
}

/// What was measured on.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let processors = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}, {processors} processors ({model})", kernel.trim())
}

/// The versions of the others.
pub(crate) fn others() -> String {
    let version = |program: &str| {
        let output = Command::new(program).arg("-v").output().ok()?;
        // One prints it to here, the other to there.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.split_ascii_whitespace()
            .map(|word| word.trim_start_matches("nginx/"))
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            .map(str::to_owned)
    };
    let version = |program| version(program).unwrap_or_else(|| "?".to_owned());
    format!("HAProxy {} and nginx {}", version("/usr/sbin/haproxy"), version("/usr/sbin/nginx"))
}
