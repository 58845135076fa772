//! The iptables enforcer against real packets, on both back ends and in both families.

mod connections;
mod field;
mod installed;
mod judging;
mod places;

use std::process::ExitCode;

use field::{Circumstances, Field, SetUp};
use kernel::iptables::Backend;
use testbed::Family;
use testbed::suite::{Test, run};

/// What is tested: its name, what it starts from, and the test.
type Scenario = (&'static str, fn() -> SetUp, fn(&mut Field) -> anyhow::Result<()>);

fn main() -> ExitCode {
    let tables: [&[Scenario]; 4] =
        [judging::SCENARIOS, connections::SCENARIOS, places::SCENARIOS, installed::SCENARIOS];
    let mut tests = Vec::new();
    for backend in Backend::BOTH {
        for family in Family::BOTH {
            for (name, set_up, scenario) in tables.into_iter().flatten() {
                let name = format!("{backend}::{}::{name}", family.name().to_lowercase());
                tests.push(Test::new(name, move || {
                    let mut field = Field::new(Circumstances { backend, family }, set_up())?;
                    let result = scenario(&mut field);
                    result.map_err(|error| anyhow::anyhow!("{error:?}\n\n{}", field.explain()))
                }));
            }
        }
    }
    run(tests)
}
