//! What runs in the machine: the usual, or what is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Arguments;
use testbed::vm::Run;

/// What runs if nothing is asked for: suites, by folder and name, and which of their tests, by a part of their names. A
/// suite may stand here several times, for parts that have no test in common.
///
/// The machine is slow, so of what a host runs too it runs only enough to show that its kernel does the same, and of
/// `packets` in ipvs mode a third. Measured on two idle cores, in seconds: the kernel's suites 88, `ipvs` 139 a family,
/// schedulers 17, `sctp` 23 in nftables mode and 30 in ipvs mode, the 34 of `packets` 47, the tools
/// 40; twice to four times that where builds run too. Not usual: all of `packets` in ipvs mode, `iptables` 266 (busy) for a back end and family, `chaos` 180
/// for nftables in one family.
const USUAL: &[(&str, &str)] = &[
    ("kernel-nftables", ""),
    ("kernel-iptables", ""),
    ("kernel-ipset", ""),
    ("kernel-link", ""),
    ("kernel-ipvs", ""),
    ("tests-ipvs", "ipv4::"),
    ("tests-schedulers", "ipv4::"),
    ("tests-sctp", "nftables::ipv4::"),
    ("tests-sctp", "ipvs::ipv4::"),
    ("tests-packets", "nftables::ipv4::a_"),
    ("tests-packets", "ipvs::ipv4::a_"),
    ("tests-userspace", "userspace::ipv4::"),
    ("tests-policy", "ipvs::ipv4::"),
    ("tests-trace", "ipvs::ipv4::"),
    ("tests-live", "ipvs::ipv4::"),
    ("tests-diff", "ipvs::ipv4::"),
    ("tests-fanout", "ipvs::ipv4::"),
];

/// Targets with `test = false`: hosts may lack what these suites need of the kernel.
pub(crate) const ONLY_HERE: &[&str] = &["ipvs", "schedulers", "sctp"];

/// The suites to run. `SUITE::PART` asks for one of them, whether usual or not; any other words ask for tests of all the
/// usual suites, by a part of their names.
pub(crate) fn runs(arguments: &Arguments, built: &BTreeMap<String, PathBuf>) -> Result<Vec<Run>> {
    let asked = arguments.filter.as_deref();
    let one = asked.map(|filter| filter.split_once("::").unwrap_or((filter, "")));
    let one = one.filter(|(suite, _)| built.contains_key(*suite));
    let parts: Vec<(&str, &str)> = match (one, asked) {
        (Some(one), _) => vec![one],
        (None, Some(filter)) => {
            let mut suites: Vec<_> = USUAL.iter().map(|(suite, _)| (*suite, filter)).collect();
            suites.dedup();
            suites
        }
        (None, None) => USUAL.to_vec(),
    };
    parts.into_iter().map(|(suite, filter)| run(suite, filter, arguments, built)).collect()
}

fn run(suite: &str, filter: &str, arguments: &Arguments, built: &BTreeMap<String, PathBuf>) -> Result<Run> {
    ensure!(suite != "tests-vm", "this suite runs suites, and not itself");
    let program = built.get(suite).with_context(|| format!("there is no suite {suite}"))?.clone();
    let filter = Some(filter.to_owned()).filter(|filter| !filter.is_empty());
    let skip = arguments.skip.iter().flat_map(|skip| ["--skip".to_owned(), skip.clone()]);
    let words = ["--test-threads", "2", "--format", "json"].map(str::to_owned);
    let args = filter.into_iter().chain(skip).chain(words).collect();
    Ok(Run { suite: suite.to_owned(), program, args })
}
