//! What a container must be allowed to do for each mode: the capabilities in the manifests, and none of them in vain.

use anyhow::{Result, ensure};
use testbed::subject::Seen::AsItself;
use testbed::{Subject, User, read_only_sysctls};

testbed::scenarios![
    Subject:
    the_capabilities_in_the_manifests_are_enough,
    no_capability_in_the_manifests_is_in_vain,
    a_kernel_parameter_that_cannot_be_set_is_named_once,
];

fn the_capabilities_in_the_manifests_are_enough(s: &mut Subject) -> Result<()> {
    s.check_contained()
}

fn no_capability_in_the_manifests_is_in_vain(s: &mut Subject) -> Result<()> {
    s.check_no_capability_is_in_vain()
}

/// Modes that a host has work without; the suite `ipvs` has one that does not.
fn a_kernel_parameter_that_cannot_be_set_is_named_once(s: &mut Subject) -> Result<()> {
    let parameters = s.mode().kernel_parameters(testbed::Family::V4);
    read_only_sysctls()?;
    s.run_as(User::Container(s.mode().capabilities()));
    s.serve_web(&["pod-1"])?;
    s.await_repair(|s| s.rules().damage())?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    let log = s.proxy()?.log();
    let said = log.lines().filter(|line| line.contains("WARN") && line.contains("sysctl")).count();
    ensure!(said == parameters.len(), "{said} of {parameters:?} are named: {log}");
    for parameter in parameters {
        let text = format!("sysctl {}=1", parameter.replace('/', "."));
        ensure!(log.contains(&text), "{text:?} is not said: {log}");
    }
    Ok(())
}
