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
mod subject;

use std::process::ExitCode;
use std::sync::LazyLock;

use subject::Subject;
use testbed::suite::{Scenario, run_everywhere};

/// A table of scenarios, each named as its function.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[testbed::suite::Scenario<crate::subject::Subject>] =
            &[$(testbed::suite::Scenario { name: stringify!($name), run: $name }),*];
    };
}
pub(crate) use scenarios;

static ALL: LazyLock<Vec<Scenario<Subject>>> = LazyLock::new(|| {
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
    let scenarios = tables.into_iter().flatten();
    scenarios.map(|scenario| Scenario { name: scenario.name, run: scenario.run }).collect()
});

fn main() -> ExitCode {
    run_everywhere(&ALL, Subject::prepare, Subject::explain)
}
