//! The page about a node's Services that `--status-page` serves: who may ask, what is answered, and what a real browser
//! makes of it.

mod asking;
mod browser;
mod looking;
mod page;

use std::process::ExitCode;

use anyhow::Result;
use testbed::mode::{NFTABLES, USERSPACE};
use testbed::suite::{Circumstances, Scenario, Test, run};
use testbed::{Family, Mode, Subject};

fn main() -> ExitCode {
    let tables =
        [(NFTABLES, asking::SCENARIOS), (USERSPACE, asking::CARRIED), (NFTABLES, looking::SCENARIOS)];
    let tests =
        tables.into_iter().flat_map(|(mode, table)| table.iter().map(move |scenario| test(mode, scenario)));
    run(tests.collect())
}

/// The page is the same for every mode and family, but for who counts connections.
fn test(mode: Mode, scenario: &'static Scenario<Subject>) -> Test {
    let run = move || -> Result<()> {
        let mut subject = Subject::prepare(Circumstances { mode, family: Family::V4 })?;
        let result = (scenario.run)(&mut subject);
        result.map_err(|error| anyhow::anyhow!("{error:?}\n\n{}", subject.explain()))
    };
    Test::new(format!("{}::{}", mode.name, scenario.name), run).with(mode.privileges)
}
