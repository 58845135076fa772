//! In a container that may do little, as manifests have it.

use anyhow::{Result, ensure};
use testbed::{Subject, User, read_only_sysctls};

testbed::scenarios![
    Subject:
    the_capabilities_in_the_manifests_are_enough,
    no_capability_in_the_manifests_is_in_vain,
    a_kernel_parameter_that_is_needed_and_cannot_be_set_is_waited_for,
];

fn the_capabilities_in_the_manifests_are_enough(s: &mut Subject) -> Result<()> {
    s.check_contained()
}

fn no_capability_in_the_manifests_is_in_vain(s: &mut Subject) -> Result<()> {
    s.check_no_capability_is_in_vain()
}

fn a_kernel_parameter_that_is_needed_and_cannot_be_set_is_waited_for(s: &mut Subject) -> Result<()> {
    read_only_sysctls()?;
    s.run_as(User::Container(s.mode().capabilities()));
    s.launch()?;
    s.proxy()?.await_line_with("net.ipv4.vs.conntrack=1")?;
    let log = s.proxy()?.log();
    ensure!(!log.contains(" synced "), "it works without, and answers are not translated back: {log}");
    Ok(())
}
