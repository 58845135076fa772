//! What administrators know of kube-proxy's ipvs mode: what is where by which name, whose virtual servers are whose, how
//! endpoints and servers go, and how node ports follow the node's addresses. What packets do in this mode, the suite
//! `packets` tells. This suite runs in the virtual machine, whose kernel has IPVS.

mod addresses;
mod container;
mod layout;
mod leaving;
mod others;
mod switching;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use testbed::suite::run_everywhere;
use testbed::{Family, Subject, mode};

fn main() -> ExitCode {
    let tables = [
        layout::SCENARIOS,
        addresses::SCENARIOS,
        leaving::SCENARIOS,
        others::SCENARIOS,
        switching::SCENARIOS,
        container::SCENARIOS,
    ];
    run_everywhere(&[mode::IPVS], &tables, Subject::prepare, Subject::explain)
}

/// Virtual servers and destinations, a line each, as `ipvsadm-save` writes them.
fn servers(s: &Subject) -> Result<String> {
    s.bed.node.output("ipvsadm", &["-S", "-n"])
}

fn ipvsadm(s: &Subject, command: &str) -> Result<()> {
    s.bed.node.output("ipvsadm", &command.split(' ').collect::<Vec<_>>()).map(drop)
}

/// An address and port as ipvsadm writes them.
fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// A set's name in this family: `set(s, "CLUSTER-IP")`.
fn set(s: &Subject, name: &str) -> String {
    let prefix = if s.family() == Family::V6 { "KUBE-6-" } else { "KUBE-" };
    format!("{prefix}{name}")
}
