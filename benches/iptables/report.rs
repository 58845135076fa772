//! What is measured, what it should be at most, and why some of it is not measured.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::report::Report;

pub(crate) const LOAD: &str = "full load";
pub(crate) const LOAD_FLOOR: &str = "full load, the same scripts alone";
pub(crate) const LOAD_RATIO: &str = "full load, ratio";
pub(crate) const LOAD_CPU: &str = "full load, own CPU time";
pub(crate) const LOAD_BYTES: &str = "full load, text";
pub(crate) const LOAD_ONE_RUN: &str = "full load, the same text in one run";
pub(crate) const CHANGE: &str = "replace an endpoint, median";
pub(crate) const CHANGE_FLOOR: &str = "replace an endpoint, the same script alone, median";
pub(crate) const CHANGE_RATIO: &str = "replace an endpoint, ratio";
pub(crate) const CHANGE_CPU: &str = "replace an endpoint, own CPU time, median";
pub(crate) const RESTART: &str = "restart with nothing to do";
pub(crate) const START: &str = "binary: start to first answer";
pub(crate) const RESIDENT: &str = "binary: resident, settled";
pub(crate) const PEAK: &str = "binary: resident, peak";
pub(crate) const EVENT: &str = "binary: API event to packet, median";
pub(crate) const EVENT_TREE_CPU: &str = "binary: CPU time of a change, with iptables";
pub(crate) const EVENT_CPU: &str = "binary: CPU time of a change, alone";

/// What is aimed at.
pub(crate) const AIMS: &[(&str, &str)] = &[
    (LOAD_RATIO, "<= 1.15 x"),
    (CHANGE_RATIO, "<= 1.10 x"),
    (CHANGE_CPU, "<= 5 ms"),
    (RESIDENT, "<= 150 MB at 10,000"),
];

/// Prints the report, and writes `iptables.md` into a folder if there is one.
pub(crate) fn hand_out(report: &Report, left_out: &[String], folder: Option<&Path>) -> Result<()> {
    println!("{}", report.table());
    left_out.iter().for_each(|sentence| println!("{sentence}"));
    let Some(folder) = folder else { return Ok(()) };
    let mut text = format!(
        "# The iptables mode\n\n\
         Ten endpoints for each service, IPv4. Made by `cargo xtask bench iptables --write-to benches`, which tells what \
         each figure is in `benches/iptables/`. What counts is how they compare within one run: most of the time is \
         that of `iptables-restore`, so each figure of the mode stands beside that of the same scripts fed to it by a \
         bare pipe.\n\n{}\n",
        report.markdown()
    );
    for sentence in left_out {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{sentence}\n");
    }
    fs::write(folder.join("iptables.md"), text)
        .with_context(|| format!("cannot write into {}", folder.display()))
}
