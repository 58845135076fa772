//! Measurements in the virtual machine that suites run in, for what hosts may lack. It is emulated: what counts is how
//! figures of one run compare.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::vm::{self, Heard, Plan, Run};

/// The slowest measurement takes some minutes, and says nothing before it is done.
const SILENCE: Duration = Duration::from_secs(10 * 60);
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// Boots a machine and has it run this program with each of these arguments, one after the other. Returns where the
/// machine's console is.
///
/// # Errors
/// When the machine cannot be had, or is silent for too long.
pub fn run(name: &str, runs: &[Vec<String>], hear: &mut dyn FnMut(&Heard)) -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let binary = testbed::binary()?;
    // Where suites have the machine's kernel too.
    let target = binary.parent().and_then(|folder| folder.parent()).context("the binary is nowhere")?;
    let cache = target.join("tmp/vm");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let run =
        |args: &Vec<String>| Run { suite: name.to_owned(), program: program.clone(), args: args.clone() };
    let runs = runs.iter().map(run).collect();
    let plan = Plan { runs, binary: binary.clone(), silence: SILENCE, patience: PATIENCE };
    vm::run(&plan, &cache, hear)?;
    Ok(cache.join("console.log"))
}
