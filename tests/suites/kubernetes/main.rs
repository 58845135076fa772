//! The proxy with an API server: what it serves is what the server holds, whatever goes wrong between them.

mod configuration;
mod credentials;
mod endurance;
mod faults;
mod following;
mod health;
mod metrics;
mod node;
mod policies;
mod recovery;
mod service_health;
mod subject;

use std::process::ExitCode;

use testbed::suite::{Scenario, everywhere, modes, run_waiting};

use subject::Subject;

/// A table row for a function of the same name.
macro_rules! scenarios {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($(Scenario { name: stringify!($name), run: $module::$name }),+),+]
    };
}

static SCENARIOS: &[Scenario<Subject>] = scenarios![
    following:
        changes_are_in_force_at_once,
        another_proxys_and_headless_services_are_not_asked_for,
        a_service_given_to_another_proxy_is_not_served_any_longer,
        a_server_without_streaming_lists_is_read_page_by_page,
        a_server_without_service_cidrs_is_followed,
        the_own_node_is_followed_and_no_other,
        the_pods_service_account_is_used_without_a_kubeconfig,
        another_address_than_the_kubeconfigs_is_taken,
        a_bad_object_costs_only_itself,
        bookmarks_alone_program_nothing;
    recovery:
        nothing_is_programmed_before_everything_is_in,
        what_happened_while_the_server_was_away_is_caught_up_with,
        cut_connections_lose_no_change,
        an_expired_watch_lists_again_and_disturbs_nothing,
        a_server_restored_from_older_state_is_believed,
        an_expired_token_is_replaced_in_flight,
        a_dead_watch_is_noticed_and_shown;
    metrics:
        the_page_has_kube_proxys_metrics_and_they_count_what_is_done;
    faults:
        a_server_that_is_down_is_waited_for,
        a_wrong_certificate_is_refused_and_named,
        garbage_is_survived,
        broken_off_answers_are_survived,
        trickling_answers_are_survived,
        internal_errors_are_survived,
        too_many_requests_are_waited_out;
    health:
        a_node_that_is_to_go_is_told_to_load_balancers_alone,
        what_is_wrong_is_told_by_events;
    node:
        the_node_is_waited_for,
        changes_of_the_node_are_followed;
    service_health:
        a_load_balancer_learns_how_many_endpoints_are_here,
        a_rolling_update_drained_by_health_checks_fails_no_connection,
        a_taken_health_check_port_is_told_of_and_mended;
];

/// What no mode and no family has to do with.
static BETWEEN_US_AND_THE_SERVER: &[Scenario<Subject>] = scenarios![
    credentials:
        a_servers_new_certificate_is_as_good,
        a_new_authority_is_taken_from_the_kubeconfig,
        a_token_file_is_read_again,
        a_client_certificate_is_read_again,
        a_service_accounts_token_is_replaced_by_a_link;
    endurance:
        an_hour_without_a_server_changes_nothing,
        ten_thousand_watches_leave_nothing_behind,
        a_server_that_is_not_there_yet_is_told_of_once,
        what_comes_in_many_pieces_is_one_change;
    faults:
        headers_without_end_are_survived,
        headers_that_trickle_without_end_are_survived;
    policies:
        policies_and_what_they_are_made_of_are_followed,
        a_policy_that_makes_no_sense_is_told_of_by_an_event,
        policies_that_may_not_be_read_are_no_business_of_services;
];

/// Where the process carries connections itself.
static CARRYING: &[Scenario<Subject>] = scenarios![following: an_sctp_port_is_told_of_by_an_event;];

fn main() -> ExitCode {
    let carrying = modes().iter().filter(|mode| mode.is_userspace());
    let carrying = everywhere(carrying, &[CARRYING], Subject::prepare, Subject::explain);
    let once = modes().iter().take(1);
    let once = everywhere(once, &[BETWEEN_US_AND_THE_SERVER], Subject::prepare, Subject::explain);
    let once = once.into_iter().filter(|test| test.name.contains("::ipv4::"));
    let configured = modes().iter().filter(|mode| matches!(mode.name, "nftables" | "iptables-legacy"));
    let of = (testbed::Subject::prepare, testbed::Subject::explain);
    let configured = everywhere(configured, &[configuration::SCENARIOS], of.0, of.1);
    let configured = configured.into_iter().filter(|test| test.name.contains("::ipv4::"));
    let all = everywhere(modes(), &[SCENARIOS], Subject::prepare, Subject::explain);
    run_waiting(all.into_iter().chain(once).chain(configured).chain(carrying).collect())
}
