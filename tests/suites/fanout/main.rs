//! What `pointsman fanout` says of Services whose endpoints are known: it is held against who really answers.

mod alone;
mod everywhere;
mod measured;

use std::process::ExitCode;

use anyhow::anyhow;
use testbed::mode::NFTABLES;
use testbed::suite::{self, Circumstances, Scenario, Test};
use testbed::{Family, Subject};

fn main() -> ExitCode {
    let mut tests =
        suite::everywhere(suite::modes(), &[everywhere::SCENARIOS], Subject::prepare, Subject::explain);
    tests.extend(alone::SCENARIOS.iter().map(alone));
    suite::run(tests)
}

/// A scenario that no mode and family makes a difference to.
fn alone(scenario: &'static Scenario<Subject>) -> Test {
    let run = || {
        let mut subject = Subject::prepare(Circumstances { mode: NFTABLES, family: Family::V4 })?;
        let result = (scenario.run)(&mut subject);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", subject.explain()))
    };
    Test::new(scenario.name, run).with(NFTABLES.privileges)
}
