//! NetworkPolicies against real packets: for each set of policies, who reaches whom at which port over which protocol, held
//! against the API's definition; and what becomes of connections, pods and rules while all that changes.

mod allowing;
mod bad;
mod changes;
mod denying;
mod established;
mod matrix;
mod new_pods;
mod peers;
mod ports;
mod restarts;
mod scene;
mod services;
mod talker;
mod tools;

/// What the API says, straight from the objects: the compiler is held against it, too.
#[path = "../../../policy/tests/semantics/oracle.rs"]
mod oracle;
#[allow(dead_code, reason = "the compiler's tests need more of it")]
#[path = "../../../policy/tests/semantics/world.rs"]
mod world;

use std::process::ExitCode;

use testbed::suite::{modes, run_everywhere};

use scene::Scene;

fn main() -> ExitCode {
    let tables = [
        denying::SCENARIOS,
        allowing::SCENARIOS,
        peers::SCENARIOS,
        ports::SCENARIOS,
        bad::SCENARIOS,
        changes::SCENARIOS,
        established::SCENARIOS,
        services::SCENARIOS,
        new_pods::SCENARIOS,
        restarts::SCENARIOS,
        tools::SCENARIOS,
    ];
    run_everywhere(modes(), &tables, Scene::prepare, Scene::explain)
}
