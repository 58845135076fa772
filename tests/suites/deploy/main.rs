//! What is in `deploy/`: manifests that a cluster takes and that say what Pointsman needs, and images that can be built.

mod capabilities;
mod dockerfile;
mod kustomize;
mod manifests;
mod rights;
mod schema;

use std::process::ExitCode;

use anyhow::Result;
use testbed::Subject;
use testbed::mode::{IPTABLES, NFTABLES};
use testbed::suite::{Test, everywhere, modes, run};

/// A table row for a function of the same name.
macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+),+]
    };
}

type Body = fn() -> Result<()>;

static TESTS: &[(&str, Body)] = tests![
    manifests:
        every_field_is_one_of_kubernetes,
        a_misspelt_field_is_found,
        objects_refer_to_each_other,
        containers_have_the_capabilities_that_modes_need,
        probes_ask_where_pointsman_answers,
        configurations_ask_for_the_overlay_s_mode,
        pointsman_takes_what_it_is_given,
        components_go_with_every_overlay,
        a_cluster_s_own_folder_changes_what_it_names;
    kustomize:
        what_is_not_known_is_refused;
    rights:
        the_role_allows_what_is_asked_for_and_nothing_else,
        policies_take_more_rights_and_the_component_gives_them,
        the_pod_network_takes_one_more_right_and_the_component_gives_it;
    dockerfile:
        its_stages_and_files_are_there;
];

fn main() -> ExitCode {
    let mut all: Vec<Test> = TESTS.iter().map(|(name, body)| Test::new(*name, *body)).collect();
    for (modes, table) in [
        (modes(), capabilities::SCENARIOS),
        (IPTABLES, capabilities::OF_IPTABLES),
        (&[NFTABLES], capabilities::OF_NFTABLES),
    ] {
        all.extend(everywhere(modes, &[table], Subject::prepare, Subject::explain));
    }
    run(all)
}
