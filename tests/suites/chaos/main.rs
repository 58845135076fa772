//! Churn, crashes, outages and vandalism, with connections under way: not one to a healthy service may fail, what is in
//! the kernel at the end is what a fresh start would put there, and nothing has leaked.

mod churn;
mod outages;
mod subject;
mod vandals;

use std::process::ExitCode;

use testbed::suite::{Scenario, everywhere, modes, run_waiting};

use subject::Chaos;

static SCENARIOS: &[Scenario<Chaos>] = &[
    Scenario { name: "two_hundred_endpoint_changes_a_second_fail_no_connection", run: churn::changes },
    Scenario { name: "fifty_crashes_under_churn_fail_no_connection", run: churn::crashes },
    Scenario { name: "many_services_go_at_once", run: churn::mass_deletion },
    Scenario { name: "a_flushed_ruleset_and_single_edits_are_repaired_under_churn", run: vandals::edits },
    Scenario { name: "changes_by_others_during_the_first_sync_are_noticed", run: vandals::busy_start },
    Scenario { name: "a_table_that_another_program_owns_is_waited_for_and_shown", run: vandals::owned_table },
    Scenario {
        name: "an_api_server_that_goes_and_comes_back_older_fails_no_connection",
        run: outages::api_server,
    },
    Scenario { name: "jumps_of_the_clock_change_nothing", run: outages::clock },
];

fn main() -> ExitCode {
    run_waiting(everywhere(modes(), &[SCENARIOS], Chaos::prepare, Chaos::explain))
}
