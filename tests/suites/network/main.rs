//! The pod network between nodes: the real daemon on each of them, pods attached by our plugin, and real packets.

mod bed;
mod everywhere;
mod gate;
mod others;
mod scene;
mod vxlan;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use testbed::suite::{Scenario, Test, run_waiting};
use testbed::{ClusterBed, Family, Stack};

use scene::{Backend, Scene};

fn main() -> ExitCode {
    let mut tests: Vec<Test> = bed::SCENARIOS.iter().map(bed_test).collect();
    let mut table = |backends: &[Backend], stacks: &[Stack], scenarios: &'static [Scenario<Scene>]| {
        for backend in backends {
            for stack in stacks {
                tests.extend(scenarios.iter().map(|scenario| test(*backend, *stack, scenario)));
            }
        }
    };
    table(&Backend::ALL, &Stack::ALL, everywhere::basic::SCENARIOS);
    table(&Backend::ALL, &[Stack::Dual], everywhere::SCENARIOS);
    table(&[Backend::Vxlan], &[Stack::Dual], gate::SCENARIOS);
    table(&[Backend::Vxlan], &[Stack::V4, Stack::Dual], vxlan::SCENARIOS);
    table(&[Backend::Vxlan], &Stack::ALL, others::switching::SCENARIOS);
    table(&[Backend::HostGw], &[Stack::Dual], others::host_gw::SCENARIOS);
    table(&[Backend::Bgp], &[Stack::Dual], others::bgp::SCENARIOS);
    run_waiting(tests)
}

fn test(backend: Backend, stack: Stack, scenario: &'static Scenario<Scene>) -> Test {
    let name = format!("{}::{}::{}", backend.name(), stack.name(), scenario.name);
    Test::new(name, move || -> Result<()> {
        let mut scene = Scene::prepare(backend, stack)?;
        let result = (scenario.run)(&mut scene);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", scene.explain()))
    })
}

fn bed_test(scenario: &'static Scenario<ClusterBed>) -> Test {
    Test::new(format!("bed::{}", scenario.name), move || -> Result<()> {
        let mut bed = ClusterBed::new(&Family::BOTH)?;
        let result = (scenario.run)(&mut bed);
        result.map_err(|error| anyhow!("{error:?}\n\n{}", bed.explain()))
    })
}
