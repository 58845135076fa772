//! The network between nodes against the kernel: real nodes, as namespaces, and real packets.

mod bgp;
mod changes;
mod cluster;
mod others;
mod paths;
mod scale;

use std::process::ExitCode;

use cni::network::{Backend, Settings};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    let tests = [paths::tests(), changes::tests(), others::tests(), bgp::tests(), scale::tests()];
    run(tests.into_iter().flatten().collect::<Vec<Test>>())
}

fn settings(backend: Backend) -> Settings {
    let cluster_cidrs = ["10.244.0.0/16", "fd00:244::/32"].iter().filter_map(|range| range.parse().ok());
    Settings { backend, cluster_cidrs: cluster_cidrs.collect(), ..Settings::default() }
}
