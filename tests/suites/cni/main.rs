//! CNI plugins, called as a container runtime calls them, with real pods and real packets: ours in both data paths, and those
//! of Debian's package `containernetworking-plugins`, by which the harness itself is tested.

mod addresses;
mod attaching;
mod bridge;
mod chained;
mod checking;
mod killed;
mod leaving;
mod rate;
mod reference;
mod routed;
mod scene;
mod spec;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use testbed::suite::{Scenario, Test, run_waiting};

use scene::{Path, Scene};
use testbed::Stack;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    let mut table = |paths: &[Path], stacks: &[Stack], scenarios: &'static [Scenario<Scene>]| {
        for path in paths {
            for stack in stacks {
                tests.extend(scenarios.iter().map(|scenario| test(*path, *stack, scenario)));
            }
        }
    };
    // The reference waits for duplicate address detection, some seconds each time.
    table(&[Path::Reference], &[Stack::Dual], reference::SCENARIOS);
    table(&[Path::Reference], &[Stack::Dual], attaching::SCENARIOS);
    for scenarios in [attaching::SCENARIOS, leaving::SCENARIOS, checking::SCENARIOS, chained::SCENARIOS] {
        table(&Path::OURS, &Stack::ALL, scenarios);
    }
    table(&Path::OURS, &[Stack::Dual], killed::SCENARIOS);
    // What is asked comes before how a pod is joined.
    table(&[Path::Routed], &[Stack::Dual], spec::SCENARIOS);
    table(&[Path::Routed], &Stack::ALL, addresses::SCENARIOS);
    table(&[Path::Routed], &Stack::ALL, routed::SCENARIOS);
    table(&[Path::Bridge], &Stack::ALL, bridge::SCENARIOS);
    run_waiting(tests)
}

fn test(path: Path, stack: Stack, scenario: &'static Scenario<Scene>) -> Test {
    let name = format!("{}::{}::{}", path.name(), stack.name(), scenario.name);
    Test::new(name, move || -> Result<()> {
        let mut scene = Scene::prepare(path, stack)?;
        let result = (scenario.run)(&mut scene);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", scene.explain()))
    })
}
