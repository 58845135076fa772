//! What is measured, and what it should be at most.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::report::Report;

use crate::machine::Told;

pub(crate) const LOAD: &str = "full load";
pub(crate) const LOAD_FLOOR: &str = "full load, the same messages alone";
pub(crate) const LOAD_RATIO: &str = "full load, ratio";
pub(crate) const LOAD_FIXED: &str = "full load of no service: sets and rules";
pub(crate) const LOAD_REST_RATIO: &str = "full load less that of no service, ratio";
pub(crate) const LOAD_SERVERS: &str = "of the messages: IPVS";
pub(crate) const LOAD_SETS: &str = "of the messages: ipsets";
pub(crate) const LOAD_ADDRESSES: &str = "of the messages: addresses";
pub(crate) const RESTART: &str = "restart with nothing new";
pub(crate) const RESTART_FLOOR: &str = "restart, the same reading alone";
pub(crate) const RESTART_RATIO: &str = "restart, ratio";
pub(crate) const REPLACE: &str = "replace an endpoint";
pub(crate) const ADD: &str = "add a service";
pub(crate) const DELETE: &str = "delete a service";
pub(crate) const CONNECT: &str = "connect through a ClusterIP, median";
pub(crate) const CONNECT_P99: &str = "connect through a ClusterIP, p99";
pub(crate) const CONNECT_RATIO: &str = "connect through a ClusterIP, ratio of medians";
pub(crate) const PAST: &str = "connect to a pod past the rules, median";
pub(crate) const PAST_RATIO: &str = "connect to a pod past the rules, ratio of medians";
pub(crate) const BARE: &str = "connect to a pod where nothing is programmed, median";
pub(crate) const BARE_P99: &str = "connect to a pod where nothing is programmed, p99";
pub(crate) const RESIDENT: &str = "binary: resident, settled";
pub(crate) const PEAK: &str = "binary: resident, peak";

/// What is aimed at.
pub(crate) const AIMS: &[(&str, &str)] = &[(LOAD_RATIO, "<= 1.20 x")];

const INTRODUCTION: &str = "# The IPVS mode

Ten endpoints for each service; ClusterIPs over TCP and IPv4, no node ports. Made by `cargo xtask bench ipvs --write-to
benches`, which tells what each figure is in `benches/ipvs/`. It runs in the virtual machine that suites run in, for
hosts may have no IPVS; that machine is emulated, some ten times as slow as a real one. So what counts is how figures
compare within this run: each of the mode stands beside that of the same messages sent to the kernel by nothing but a
loop, and each connection through a service beside one to a pod, by a node where nothing is programmed, in turns.
";

/// Prints the report, and writes `ipvs.md` into a folder if there is one.
pub(crate) fn hand_out(told: &Told, folder: Option<&Path>) -> Result<()> {
    let report: &Report = &told.report;
    println!("{}", report.table());
    told.notes.iter().for_each(|sentence| println!("{sentence}"));
    let Some(folder) = folder else { return Ok(()) };
    let mut text = format!("{INTRODUCTION}\n{}\n", report.markdown());
    for sentence in &told.notes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{sentence}\n");
    }
    fs::write(folder.join("ipvs.md"), text).with_context(|| format!("cannot write into {}", folder.display()))
}
