//! `pointsman trace`: a service that is broken in one way after the other is diagnosed each time, and what makes no sense
//! is told in a line. That predictions come true, the suite `packets` tells.

mod broken;
mod questions;

use std::process::ExitCode;

use testbed::Subject;
use testbed::suite::{modes, run_everywhere};

fn main() -> ExitCode {
    let tables = [broken::SCENARIOS, questions::SCENARIOS];
    run_everywhere(modes(), &tables, Subject::prepare, Subject::explain)
}
