//! What the machine says, a line of JSON each: its own words, those of libtest (`--format json`), and what programs that
//! are no suites have measured ([`measured`]).

use serde_json::{Value, json};

/// News of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The machine is up.
    Booted {
        /// Its kernel's version.
        kernel: String,
        /// Since it was started.
        seconds: f64,
    },
    /// A run begins.
    Begins {
        /// Its place in the plan.
        run: usize,
    },
    /// A test ended.
    Tested {
        /// Its run.
        run: usize,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something was measured.
    Measured {
        /// By which run.
        run: usize,
        /// What came of it, in the run's own words.
        what: Value,
    },
    /// A run ended.
    Ended {
        /// Its place in the plan.
        run: usize,
        /// Its exit status.
        status: i64,
    },
    /// There is nothing left to do.
    Done,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub verdict: Verdict,
}

/// Whether a test passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Passed,
    /// It did not, and says why.
    Failed(String),
}

pub(super) enum Event {
    /// A module that the machine should have could not be loaded.
    Lacks(String),
    Machine(Heard),
    Test(Outcome),
    Measured(Value),
}

/// The line that hands over what a run has measured, to be printed by it.
#[must_use]
pub fn measured(what: &Value) -> String {
    json!({ "type": "measurement", "event": "made", "what": what }).to_string()
}

impl Event {
    /// Reads a line; `None` for one that tells nothing.
    pub(super) fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
        let run = || usize::try_from(line.get("run")?.as_u64()?).ok();
        match (text("type")?.as_str(), text("event")?.as_str()) {
            ("machine", "booted") => {
                let seconds = line.get("seconds")?.as_f64()?;
                Some(Self::Machine(Heard::Booted { kernel: text("kernel")?, seconds }))
            }
            ("machine", "lacks") => Some(Self::Lacks(text("module")?)),
            ("machine", "begins") => Some(Self::Machine(Heard::Begins { run: run()? })),
            ("machine", "ended") => {
                let status = line.get("status")?.as_i64()?;
                Some(Self::Machine(Heard::Ended { run: run()?, status }))
            }
            ("machine", "done") => Some(Self::Machine(Heard::Done)),
            ("test", "ok") => Some(Self::Test(Outcome { name: text("name")?, verdict: Verdict::Passed })),
            ("test", "failed") => {
                let verdict = Verdict::Failed(text("stdout").unwrap_or_default());
                Some(Self::Test(Outcome { name: text("name")?, verdict }))
            }
            ("measurement", "made") => Some(Self::Measured(line.get("what")?.clone())),
            _ => None,
        }
    }
}
