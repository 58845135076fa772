//! What the machine says, a line of JSON each: its own words, and those of libtest (`--format json`).

use serde_json::Value;

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
    /// A module that it should have could not be loaded.
    Lacks {
        /// Its name.
        module: String,
    },
    /// A suite begins.
    Begins {
        /// Its name.
        suite: String,
    },
    /// A test ended.
    Tested {
        /// Its suite.
        suite: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// A suite ended.
    Ended {
        /// Its name.
        suite: String,
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
    Machine(Heard),
    Test(Outcome),
}

impl Event {
    /// Reads a line; `None` for one that tells nothing.
    pub(super) fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
        match (text("type")?.as_str(), text("event")?.as_str()) {
            ("machine", "booted") => {
                let seconds = line.get("seconds")?.as_f64()?;
                Some(Self::Machine(Heard::Booted { kernel: text("kernel")?, seconds }))
            }
            ("machine", "lacks") => Some(Self::Machine(Heard::Lacks { module: text("module")? })),
            ("machine", "begins") => Some(Self::Machine(Heard::Begins { suite: text("suite")? })),
            ("machine", "ended") => {
                let status = line.get("status")?.as_i64()?;
                Some(Self::Machine(Heard::Ended { suite: text("suite")?, status }))
            }
            ("machine", "done") => Some(Self::Machine(Heard::Done)),
            ("test", "ok") => Some(Self::Test(Outcome { name: text("name")?, verdict: Verdict::Passed })),
            ("test", "failed") => {
                let verdict = Verdict::Failed(text("stdout").unwrap_or_default());
                Some(Self::Test(Outcome { name: text("name")?, verdict }))
            }
            _ => None,
        }
    }
}
