//! `pointsman diff`: how the kernel differs from what should be there.
//!
//! The process that runs on this machine is asked (`GET /diff` at its socket); or, if flags say what should be there, it is
//! worked out `alone`. `table` shows it to people. As with `diff`, the exit status is 0 where there is no difference, 1
//! where there is one, and 2 where that cannot be told.

mod alone;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use modes::{Comparison, Difference};
use serde::{Deserialize, Serialize};

use crate::cli::{Cli, DiffFlags};
use crate::output;
use crate::status::{client, place};

const DIFFERENT: u8 = 1;
const CANNOT_TELL: u8 = 2;

/// How long the answer may take: longer than the other side waits for its sync loop.
const WITHIN: Duration = Duration::from_secs(65);

/// How the kernel differs from what should be there. Fields may be added; readers skip those that they do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Diff {
    /// The mode that it was compared in.
    pub(crate) mode: String,
    /// By service, and what is missing first; what is nobody's comes last.
    pub(crate) differences: Vec<Difference>,
    /// How many more there are.
    #[serde(default)]
    pub(crate) omitted: usize,
    /// What is there without use, which is no difference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unused: Vec<String>,
    /// What was not compared, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

impl Diff {
    /// What came of a comparison in a mode.
    pub(crate) fn of(mode: &str, comparison: Comparison) -> Self {
        let mut differences = comparison.differences().to_vec();
        let key = |it: &Difference| (it.service.is_none(), it.service.clone(), it.sign);
        differences.sort_by_cached_key(key);
        let omitted = comparison.omitted();
        let Comparison { unused, notes, .. } = comparison;
        Self { mode: mode.to_owned(), differences, omitted, unused, notes }
    }
}

/// Compares, and prints what differs; returns the exit status.
pub(crate) fn main(cli: Cli, flags: DiffFlags) -> ExitCode {
    let output = flags.output;
    let diff = compare(cli, flags).and_then(|diff| output::show(&diff, output, table::render).map(|()| diff));
    match diff {
        Ok(diff) if diff.differences.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DIFFERENT),
        Err(error) => crate::fail(CANNOT_TELL, &format!("{error:#}")),
    }
}

fn compare(cli: Cli, flags: DiffFlags) -> anyhow::Result<Diff> {
    let says_what_should_be = cli.flags.iter().any(|flag| flag.given && flag.name != "socket");
    if says_what_should_be {
        return alone::compare(&flags.into_desired(cli));
    }
    let socket = place::to_ask(cli.socket.as_deref())?;
    client::ask(&socket, "/diff", WITHIN).with_context(|| or_alone(&socket))
}

/// What else there is to do if nobody answers.
fn or_alone(socket: &Path) -> String {
    match socket.exists() {
        true => "cannot ask what differs".to_owned(),
        false => "nobody to ask, and no flag says what should be there (such as --manifests, --kubeconfig, --config)"
            .to_owned(),
    }
}
