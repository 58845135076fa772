//! What the tools say that ask a running proxy: `get`, `explain` and `status`.

mod explained;
mod listed;
mod subject;
mod trouble;

use std::process::ExitCode;

use anyhow::anyhow;
use nix::unistd::geteuid;
use testbed::isolation::Privileges;
use testbed::suite::{Scenario, Test, run};

use subject::Tools;

fn main() -> ExitCode {
    // Only the machine's root can become another of its users; anybody else becomes one of a user namespace.
    let privileges = if geteuid().is_root() { Privileges::Machine } else { Privileges::Namespace };
    let scenarios = [listed::SCENARIOS, explained::SCENARIOS, trouble::SCENARIOS];
    run(scenarios.into_iter().flatten().map(|scenario| test(scenario).with(privileges)).collect())
}

fn test(scenario: &'static Scenario<Tools>) -> Test {
    Test::new(scenario.name, || {
        let mut tools = Tools::prepare()?;
        let result = (scenario.run)(&mut tools);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", tools.subject.explain()))
    })
}
