//! What is in `deploy/`.

mod capabilities;

use std::process::ExitCode;

use testbed::Subject;
use testbed::suite::{modes, run_everywhere};

fn main() -> ExitCode {
    run_everywhere(modes(), &[capabilities::SCENARIOS], Subject::prepare, Subject::explain)
}
