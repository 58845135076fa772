//! The pod network between nodes: the real daemon on each of them, pods attached by our plugin, and real packets.

mod bed;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use testbed::suite::{Scenario, Test, run};
use testbed::{ClusterBed, Family};

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(bed::SCENARIOS.iter().map(|scenario| test("bed", &Family::BOTH, scenario)));
    run(tests)
}

fn test(group: &str, families: &'static [Family], scenario: &'static Scenario<ClusterBed>) -> Test {
    Test::new(format!("{group}::{}", scenario.name), move || -> Result<()> {
        let mut bed = ClusterBed::new(families)?;
        let result = (scenario.run)(&mut bed);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", bed.explain()))
    })
}
