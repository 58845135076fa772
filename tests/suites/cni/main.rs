//! CNI plugins, called as a container runtime calls them, with real pods and real packets: ours in both data paths, and those
//! of Debian's package `containernetworking-plugins`, by which the harness itself is tested.

mod attaching;
mod reference;
mod scene;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use testbed::suite::{Scenario, Test, run};

use scene::{Path, Scene, Stack};

fn main() -> ExitCode {
    let mut tests = Vec::new();
    let mut table = |paths: &[Path], stacks: &[Stack], scenarios: &'static [Scenario<Scene>]| {
        for path in paths {
            for stack in stacks {
                tests.extend(scenarios.iter().map(|scenario| test(*path, *stack, scenario)));
            }
        }
    };
    table(&[Path::Reference], &Stack::ALL, reference::SCENARIOS);
    table(&Path::ALL, &Stack::ALL, attaching::SCENARIOS);
    run(tests)
}

fn test(path: Path, stack: Stack, scenario: &'static Scenario<Scene>) -> Test {
    let name = format!("{}::{}::{}", path.name(), stack.name(), scenario.name);
    Test::new(name, move || -> Result<()> {
        let mut scene = Scene::prepare(path, stack)?;
        let result = (scenario.run)(&mut scene);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", scene.explain()))
    })
}
