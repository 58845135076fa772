//! Questions about policies: `pointsman policy check` and `what-if`, and what `pointsman trace` asks of them.
//!
//! The process that runs on this machine tells all that it knows (`GET /policies` at its socket), or files do; verdicts are
//! worked out here, so that no question keeps the process from its work. `judge` gives verdicts, `ends` reads who is meant,
//! `check` and `what_if` are the tools, `table` shows what they find to people.

mod check;
mod connections;
mod ends;
mod judge;
mod known;
mod pairs;
mod policies;
mod table;
#[cfg(test)]
mod tests;
mod what_if;

use std::process::ExitCode;

use serde::Serialize;

pub(crate) use self::judge::{Cluster, Judgement};
pub(crate) use self::known::cluster;
use crate::cli::{Output, PolicyTool};
use crate::output::{self, Look};

/// Denied, or changed.
const YES: u8 = 1;
const CANNOT_TELL: u8 = 2;

/// Answers a question; returns the exit status.
pub(crate) fn main(tool: &PolicyTool, socket: Option<&str>) -> ExitCode {
    let yes = match tool {
        PolicyTool::Check(flags) => told(check::check(flags, socket), flags.output, table::check),
        PolicyTool::WhatIf(flags) => told(what_if::what_if(flags, socket), flags.output, table::what_if),
    };
    match yes {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(YES),
        Err(error) => crate::fail(CANNOT_TELL, &format!("{error:#}")),
    }
}

/// An answer that an exit status sums up.
trait Answer: Serialize {
    /// Whether something is denied, or changes.
    fn is_yes(&self) -> bool;
}

fn told<T: Answer>(
    answer: anyhow::Result<T>,
    output: Output,
    render: fn(&T, Look) -> String,
) -> anyhow::Result<bool> {
    let answer = answer?;
    output::show(&answer, output, render)?;
    Ok(answer.is_yes())
}
