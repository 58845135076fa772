//! What packets do: every scenario says who may reach what, and which source address the pod sees.
//!
//! Scenarios name no mode. Where a mode differs on purpose, `testbed::suite::DIFFERENCES` says so.

mod affinity;
mod basic;
mod external;
mod flows;
mod lifecycle;
mod policies;
mod selection;
mod settings;

use std::process::ExitCode;

use testbed::Subject;
use testbed::suite::{modes, run_everywhere};

fn main() -> ExitCode {
    let tables = [
        basic::SCENARIOS,
        external::SCENARIOS,
        policies::SCENARIOS,
        selection::SCENARIOS,
        settings::SCENARIOS,
        affinity::SCENARIOS,
        flows::SCENARIOS,
        lifecycle::SCENARIOS,
    ];
    run_everywhere(modes(), &tables, Subject::prepare_with_predictions, Subject::explain)
}
