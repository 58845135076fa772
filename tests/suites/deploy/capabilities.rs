//! What a container must be allowed to do for each mode: the capabilities in the manifests, and none of them in vain.

use anyhow::Result;
use testbed::{Subject, User};

testbed::scenarios![
    Subject:
    the_capabilities_in_the_manifests_are_enough,
    without_any_it_fails,
];

fn the_capabilities_in_the_manifests_are_enough(s: &mut Subject) -> Result<()> {
    s.check_contained()
}

fn without_any_it_fails(s: &mut Subject) -> Result<()> {
    s.run_as(User::Container(&[]));
    s.serve_all_kinds()
}
