//! On the host: has the machine measure, and adds what it tells to the report.

use anyhow::{Result, ensure};
use serde::Deserialize as _;
use testbed::vm::Heard;

use crate::Step;
use crate::report::{Report, Row};

/// It is emulated: larger clusters take too long.
pub(crate) const MOST_SERVICES: u32 = 1_000;

/// Boots a machine and has it make these measurements.
pub(crate) fn measure(steps: &[Step<'_>], report: &mut Report) -> Result<()> {
    let runs: Vec<_> = steps.iter().map(Step::args).collect::<Result<_>>()?;
    let mut told = 0;
    let console = benches::machine::run("benches-fanout", &runs, &mut |heard| match heard {
        Heard::Begins { run, .. } => {
            if let Some(step) = steps.get(*run) {
                eprintln!("in the virtual machine: {step} ...");
            }
        }
        Heard::Measured { what, .. } => match Row::deserialize(what) {
            Ok(row) => {
                told += 1;
                report.add_of_machine(row);
            }
            Err(error) => eprintln!("cannot understand {what}: {error}"),
        },
        Heard::Booted { .. } | Heard::Tested { .. } | Heard::Ended { .. } | Heard::Done => {}
    })?;
    ensure!(
        told == steps.len(),
        "{} of {} measurements failed: see {}",
        steps.len() - told,
        steps.len(),
        console.display()
    );
    Ok(())
}
