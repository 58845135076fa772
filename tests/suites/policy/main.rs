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

use testbed::Mode;
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES};
use testbed::suite::{everywhere, modes, run};

use scene::Scene;

fn main() -> ExitCode {
    let all = [
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
    // Beside the other modes, nftables enforces as it does beside its own; what differs is how connections come about.
    let carried = [established::SCENARIOS, services::SCENARIOS];
    let enforces = |mode: &&Mode| [NFTABLES, IPTABLES_NFT, IPTABLES_LEGACY].contains(mode);
    let (own, others): (Vec<&Mode>, Vec<&Mode>) = modes().iter().partition(enforces);
    let mut tests = everywhere(own, &all, Scene::prepare, Scene::explain);
    tests.extend(everywhere(others, &carried, Scene::prepare, Scene::explain));
    run(tests)
}
