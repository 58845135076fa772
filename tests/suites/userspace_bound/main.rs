//! userspace mode as an ordinary user has it: every Service at a local port, without any privilege. And what
//! `pointsman status` says of it.

mod listening;
mod sources;
mod status;
mod subject;

use std::process::ExitCode;

use anyhow::anyhow;
use nix::unistd::geteuid;
use testbed::isolation::Privileges;
use testbed::suite::{Scenario, Test, run};

use subject::Subject;

fn main() -> ExitCode {
    // Only the machine's root can become another of its users; anybody else becomes one of a user namespace.
    let privileges = if geteuid().is_root() { Privileges::Machine } else { Privileges::Namespace };
    let scenarios = [listening::SCENARIOS, sources::SCENARIOS, status::SCENARIOS];
    run(scenarios.into_iter().flatten().map(|scenario| test(scenario).with(privileges)).collect())
}

fn test(scenario: &'static Scenario<Subject>) -> Test {
    Test::new(scenario.name, || {
        let mut subject = Subject::prepare()?;
        let result = (scenario.run)(&mut subject);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", subject.explain()))
    })
}
