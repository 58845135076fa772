//! What the benchmarks measure on and with: clusters of a given size, proxies on a node, and tables of figures.
//!
//! The benchmarks themselves are in `benches/`, a file for each thing measured: `cargo bench -p benches`. Those of whole
//! clusters are programs, a folder for each: `scale/`, `fanout/`, `iptables/`, `ipvs/`, `userspace/`,
//! `policy/`, `cni/` and `soak/`.

pub mod cluster;
pub mod contender;
pub mod figures;
pub mod isolated;
pub mod machine;
pub mod objects;
pub mod process;
pub mod report;

use std::process::ExitCode;

/// How a benchmark ends: one that failed says why, and by what steps it came to that.
pub fn end(name: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:?}");
            ExitCode::FAILURE
        }
    }
}
