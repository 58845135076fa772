//! The second bed: a virtual machine that runs a kernel of Debian's. It has what a host's kernel may lack (SCTP, IPVS,
//! dummy devices), and is older than most.
//!
//! The machine has no disk. All that it runs is in the archive that its kernel starts from (`image`): suites, the
//! programs that they use, and modules. It says what came of each test on a serial line ([`report`]).

mod archive;
mod image;
mod kernel;
mod machine;
pub mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use report::{Heard, Outcome, Verdict, measured};

/// Set by the machine's first process.
const GUEST: &str = "POINTSMAN_GUEST";

/// Whether this process runs in the machine.
#[must_use]
pub fn is_guest() -> bool {
    std::env::var_os(GUEST).is_some()
}

/// How long to wait for what takes so long on a host: the machine is emulated, and some times as slow.
#[must_use]
pub fn patience(on_a_host: Duration) -> Duration {
    if is_guest() { on_a_host * 4 } else { on_a_host }
}

/// What the machine is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One after the other.
    pub runs: Vec<Run>,
    /// The binary that the suites test.
    pub binary: PathBuf,
    /// How long the machine may say nothing: it takes its time for a test, but not for ever.
    pub silence: Duration,
    /// How long it may run.
    pub patience: Duration,
}

/// A suite, a part of one, or a benchmark, that runs in the machine.
#[derive(Clone, Debug)]
pub struct Run {
    /// The name of the suite or benchmark.
    pub suite: String,
    /// Its program, as built for the host.
    pub program: PathBuf,
    /// Its arguments. A suite must be asked to speak JSON.
    pub args: Vec<String>,
}

/// Boots a machine and has it run suites. What it says is handed over as it comes.
///
/// # Errors
/// When something that the machine takes is missing, with what to install; when it panics, hangs, or ends before it has
/// run everything, with the end of what its kernel said.
pub fn run(plan: &Plan, cache: &Path, heard: &mut dyn FnMut(&Heard)) -> Result<()> {
    let kernel = kernel::obtain(cache).context("cannot get a kernel for the virtual machine")?;
    let archive = cache.join("initramfs.cpio");
    image::build(plan, &kernel, &archive).context("cannot pack what the virtual machine runs")?;
    machine::run(plan, &kernel, &archive, &cache.join("console.log"), heard)
}
