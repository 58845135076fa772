//! On the host: has the machine measure, and gathers what it tells.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, ensure};
use benches::report::Report;
use serde::Deserialize as _;
use serde_json::Value;
use testbed::vm::Heard;

use crate::{Measured, Measurement, Step, report};

/// What came of all.
pub(crate) struct Told {
    pub(crate) report: Report,
    /// Sentences on the machine.
    pub(crate) notes: Vec<String>,
}

/// Boots a machine and has it make these measurements.
pub(crate) fn run(steps: &[Step]) -> Result<Told> {
    let runs: Vec<_> = steps.iter().map(|step| step.args()).collect::<Result<_>>()?;
    let mut listener = Listener::new(steps);
    let console = benches::machine::run("benches-ipvs", &runs, &mut |heard| listener.take(heard))?;
    ensure!(listener.failed.is_empty(), "{}: see {}", listener.failed.join(", "), console.display());
    Ok(Told { report: listener.report, notes: listener.notes.into_iter().collect() })
}

struct Listener<'a> {
    steps: &'a [Step],
    report: Report,
    notes: BTreeSet<String>,
    failed: Vec<String>,
    /// When the last run began.
    began: Instant,
}

impl<'a> Listener<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let report = Report::with_aims(report::AIMS);
        Self { steps, report, notes: BTreeSet::new(), failed: Vec::new(), began: Instant::now() }
    }

    fn take(&mut self, heard: &Heard) {
        match heard {
            Heard::Booted { kernel, .. } => {
                self.notes.insert(format!("Linux {kernel}, two emulated processors."));
            }
            Heard::Begins { .. } => self.began = Instant::now(),
            Heard::Measured { run, what } => self.add(*run, what),
            Heard::Ended { run, status } => {
                let (name, seconds) = (self.name(*run), self.began.elapsed().as_secs());
                eprintln!("{name}: {seconds} s, exit status {status}.");
                if *status != 0 {
                    self.failed.push(format!("{name} failed"));
                }
            }
            Heard::Tested { .. } | Heard::Done => {}
        }
    }

    fn add(&mut self, run: usize, what: &Value) {
        match (Measured::deserialize(what), self.steps.get(run)) {
            (Ok(measured), Some(step)) => {
                self.report.add(step.services, measured.figures);
                self.notes.extend(measured.notes);
            }
            _ => self.failed.push(format!("{}: cannot understand {what}", self.name(run))),
        }
    }

    fn name(&self, run: usize) -> String {
        self.steps.get(run).map_or_else(String::new, |Step { measure, of, services }| {
            let measured = match measure {
                Measurement::Inside => "loading and changing",
                Measurement::Path => "connecting",
                Measurement::Memory => "memory",
            };
            format!("{} with {services} services, {measured}", of.name())
        })
    }
}
