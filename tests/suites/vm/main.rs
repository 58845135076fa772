//! Suites once more, on another kernel: they run in a virtual machine, and each of their tests is a test here.
//!
//! Nothing asked for, the usual parts of the usual suites run. `cargo test --workspace --test vm -- affinity` runs what has
//! that in its name in all the usual suites, and `-- tests-chaos::nftables` what has it in that suite's names, usual or
//! not.

mod built;
mod plan;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::vm::{self, Heard, Outcome, Plan, Run, Verdict};

/// The machine is emulated: an ordinary test takes a second, and one that hangs is ended after four minutes.
const SILENCE: Duration = Duration::from_secs(5 * 60);
const PATIENCE: Duration = Duration::from_secs(40 * 60);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // What there is to list is known when it has run.
    let trials = if arguments.list { Ok(Vec::new()) } else { trials(&arguments) };
    match trials {
        // What was asked for is what has run.
        Ok(trials) => {
            let all = Arguments { filter: None, skip: Vec::new(), ..arguments };
            libtest_mimic::run(&all, trials).exit_code()
        }
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the machine; makes a test of each test's outcome, which only has to be told.
fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    let plan = Plan {
        runs: plan::runs(arguments, &built::executables(plan::ONLY_HERE)?)?,
        binary: testbed::binary()?,
        silence: SILENCE,
        patience: PATIENCE,
    };
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    let mut told = Told { plan: &plan, outcomes: Vec::new(), ended: BTreeMap::new(), began: Instant::now() };
    vm::run(&plan, &cache, &mut |heard| told.take(heard))?;
    told.trials()
}

/// What the machine has told so far.
struct Told<'a> {
    plan: &'a Plan,
    /// What came of tests, with the run of each.
    outcomes: Vec<(usize, Outcome)>,
    /// Exit statuses by run.
    ended: BTreeMap<usize, i64>,
    /// When the last run began.
    began: Instant,
}

impl Told<'_> {
    fn take(&mut self, heard: &Heard) {
        match heard {
            Heard::Booted { kernel, seconds } => eprintln!("Linux {kernel} was up after {seconds} s."),
            Heard::Begins { run } => {
                eprintln!("{} ...", self.name(*run));
                self.began = Instant::now();
            }
            Heard::Tested { run, outcome } => {
                if let Verdict::Failed(why) = &outcome.verdict {
                    // The rest is told at the end, which is minutes away.
                    let first = why.lines().next().unwrap_or_default();
                    eprintln!("{}: {} failed: {first}", self.name(*run), outcome.name);
                }
                self.outcomes.push((*run, outcome.clone()));
            }
            Heard::Ended { run, status } => {
                let count = self.of(*run).count();
                let seconds = self.began.elapsed().as_secs();
                eprintln!("{}: {count} tests in {seconds} s, exit status {status}.", self.name(*run));
                self.ended.insert(*run, *status);
            }
            Heard::Measured { .. } | Heard::Done => {}
        }
    }

    /// The suite's name and its arguments.
    fn name(&self, run: usize) -> String {
        self.plan.runs.get(run).map_or_else(String::new, |Run { suite, args, .. }| {
            args.iter()
                .take_while(|arg| !arg.starts_with('-'))
                .fold(suite.clone(), |name, arg| name + " " + arg)
        })
    }

    fn of(&self, run: usize) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |(of, _)| *of == run).map(|(_, outcome)| outcome)
    }

    fn trials(self) -> Result<Vec<Trial>> {
        for run in 0..self.plan.runs.len() {
            let name = self.name(run);
            let failures = self.of(run).any(|outcome| outcome.verdict != Verdict::Passed);
            let status = self.ended.get(&run).with_context(|| format!("{name} did not run"))?;
            ensure!((*status != 0) == failures, "{name} ended with {status}, which its tests do not explain");
        }
        ensure!(!self.outcomes.is_empty(), "no test has what was asked for in its name");
        let trial = |(run, outcome): (usize, Outcome)| {
            Trial::test(format!("{}::{}", self.plan.runs[run].suite, outcome.name), move || {
                match outcome.verdict {
                    Verdict::Passed => Ok(()),
                    Verdict::Failed(why) => Err(Failed::from(why)),
                }
            })
        };
        Ok(self.outcomes.into_iter().map(trial).collect())
    }
}
