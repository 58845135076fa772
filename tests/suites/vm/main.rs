//! Suites once more, on another kernel: they run in a virtual machine, and each of their tests is a test here.

mod built;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::vm::{self, Heard, Outcome, Plan, Suite, Verdict};

/// The suites that run there, by folder and name.
const SUITES: [&str; 3] = ["kernel-nftables", "kernel-iptables", "tests-packets"];

/// What runs of them if nothing is asked for: an emulated machine takes five minutes for a mode.
const USUAL: &str = "nftables::";

/// The machine is emulated: an ordinary test takes a second, and those of a suite that fail by hanging a minute.
const SILENCE: Duration = Duration::from_secs(150);
const PATIENCE: Duration = Duration::from_secs(25 * 60);

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
    let built = built::executables()?;
    let suites = SUITES.map(|name| {
        let program = built.get(name).with_context(|| format!("there is no suite {name}"))?.clone();
        Ok(Suite { name: name.to_owned(), program, args: args(name, arguments) })
    });
    let plan = Plan {
        suites: suites.into_iter().collect::<Result<_>>()?,
        binary: testbed::binary()?,
        silence: SILENCE,
        patience: PATIENCE,
    };
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    let mut told = Told::default();
    vm::run(&plan, &cache, &mut |heard| told.take(heard))?;
    told.trials(&plan)
}

/// What of the arguments is for the suites.
fn args(suite: &str, arguments: &Arguments) -> Vec<String> {
    let usual = (suite == "tests-packets").then(|| USUAL.to_owned());
    let skip = arguments.skip.iter().flat_map(|skip| ["--skip".to_owned(), skip.clone()]);
    let threads = ["--test-threads".to_owned(), "2".to_owned()];
    arguments.filter.clone().or(usual).into_iter().chain(skip).chain(threads).collect()
}

/// What the machine has told so far.
#[derive(Default)]
struct Told {
    outcomes: Vec<(String, Outcome)>,
    /// Exit statuses by suite.
    ended: BTreeMap<String, i64>,
}

impl Told {
    fn take(&mut self, heard: &Heard) {
        match heard {
            Heard::Booted { kernel, seconds } => eprintln!("Linux {kernel} was up after {seconds} s."),
            Heard::Lacks { module } => eprintln!("It has no module {module}."),
            Heard::Begins { suite } => eprintln!("{suite} ..."),
            Heard::Tested { suite, outcome } => {
                if outcome.verdict != Verdict::Passed {
                    eprintln!("{suite}: {} failed.", outcome.name);
                }
                self.outcomes.push((suite.clone(), outcome.clone()));
            }
            Heard::Ended { suite, status } => {
                let count = self.outcomes.iter().filter(|(of, _)| of == suite).count();
                eprintln!("{suite}: {count} tests, exit status {status}.");
                self.ended.insert(suite.clone(), *status);
            }
            Heard::Done => {}
        }
    }

    fn trials(self, plan: &Plan) -> Result<Vec<Trial>> {
        for Suite { name, .. } in &plan.suites {
            let failed = |(of, outcome): &(String, Outcome)| of == name && outcome.verdict != Verdict::Passed;
            let failures = self.outcomes.iter().any(failed);
            let status = self.ended.get(name).with_context(|| format!("{name} did not run"))?;
            ensure!((*status != 0) == failures, "{name} ended with {status}, which its tests do not explain");
        }
        let trial = |(suite, outcome): (String, Outcome)| {
            Trial::test(format!("{suite}::{}", outcome.name), move || match outcome.verdict {
                Verdict::Passed => Ok(()),
                Verdict::Failed(why) => Err(Failed::from(why)),
            })
        };
        Ok(self.outcomes.into_iter().map(trial).collect())
    }
}
