//! What a container must be allowed to do for each mode: the capabilities in the manifests, and none of them in vain.

use anyhow::{Result, ensure};
use testbed::mode::{IPTABLES_LEGACY, NFTABLES};
use testbed::subject::Seen::AsItself;
use testbed::subject::has_chains;
use testbed::suite::Scenario;
use testbed::{Subject, User, await_that, read_only_sysctls};

testbed::scenarios![
    Subject:
    the_capabilities_in_the_manifests_are_enough,
    no_capability_in_the_manifests_is_in_vain,
];

/// Where there is a kernel parameter that is wanted and can be done without; the suite `ipvs` has one that cannot.
pub(crate) const OF_IPTABLES: &[Scenario<Subject>] = &[Scenario {
    name: "a_kernel_parameter_that_cannot_be_set_is_named_once",
    run: a_kernel_parameter_that_cannot_be_set_is_named_once,
}];

/// Where another mode was before.
pub(crate) const OF_NFTABLES: &[Scenario<Subject>] = &[Scenario {
    name: "what_iptables_legacy_has_takes_another_capability_to_remove",
    run: what_iptables_legacy_has_takes_another_capability_to_remove,
}];

fn the_capabilities_in_the_manifests_are_enough(s: &mut Subject) -> Result<()> {
    s.check_contained()
}

fn no_capability_in_the_manifests_is_in_vain(s: &mut Subject) -> Result<()> {
    s.check_no_capability_is_in_vain()
}

fn a_kernel_parameter_that_cannot_be_set_is_named_once(s: &mut Subject) -> Result<()> {
    read_only_sysctls()?;
    s.run_as(User::Container(s.mode().capabilities()));
    s.serve_web(&["pod-1"])?;
    s.await_repair(|s| s.rules().damage())?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    let log = s.proxy()?.log();
    let text = "sysctl net.ipv4.conf.all.route_localnet=1";
    let said = log.lines().filter(|line| line.contains("WARN") && line.contains(text)).count();
    ensure!(said == 1, "{text:?} is said {said} times: {log}");
    Ok(())
}

/// `components/iptables-legacy` gives it.
fn what_iptables_legacy_has_takes_another_capability_to_remove(s: &mut Subject) -> Result<()> {
    s.ask_for_mode(IPTABLES_LEGACY.args);
    s.serve_web(&["pod-1"])?;
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.ask_for_mode(NFTABLES.args);
    s.run_as(User::Container(&["NET_ADMIN"]));
    s.sync()?;
    s.proxy()?.await_line_with("NET_RAW")?;
    ensure!(has_chains(s, IPTABLES_LEGACY)?, "NET_ADMIN alone is enough");
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.run_as(User::Container(&["NET_ADMIN", "NET_RAW"]));
    s.sync()?;
    await_that("nothing is left of iptables-legacy", || Ok(!has_chains(s, IPTABLES_LEGACY)?))?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself).map(drop)
}
