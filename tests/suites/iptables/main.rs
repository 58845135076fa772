//! What administrators know of kube-proxy's iptables mode: names of chains, what they read like, which of them a change
//! touches, which back end is used, and what is said when iptables does not do as it should. What packets do in this
//! mode, the suite `packets` tells.

mod back_ends;
mod kube_proxy;
mod localhost;
mod lock;
mod names;
mod others;
mod restores;
mod served;
mod switching;
mod textbook;
mod trouble;
mod writing;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use testbed::mode::{IPTABLES, Tool};
use testbed::suite::run_everywhere;
use testbed::{Backend, Iptables, Subject};

fn main() -> ExitCode {
    let tables = [
        names::SCENARIOS,
        textbook::SCENARIOS,
        writing::SCENARIOS,
        back_ends::SCENARIOS,
        localhost::SCENARIOS,
        lock::SCENARIOS,
        trouble::SCENARIOS,
        others::SCENARIOS,
        switching::SCENARIOS,
    ];
    run_everywhere(IPTABLES, &tables, Subject::prepare, Subject::explain)
}

/// The back end that a scenario runs on.
fn back_end(s: &Subject) -> Result<Backend> {
    match s.mode().tool {
        Tool::Iptables(backend) => Ok(backend),
        Tool::Nft | Tool::Ipvs => bail!("this suite is about iptables"),
    }
}

/// The node's tables of the back end and family that a scenario runs in.
fn tables(s: &Subject) -> Result<Iptables<'_>> {
    Ok(Iptables { node: &s.bed.node, backend: back_end(s)?, family: s.family() })
}

/// The chains that services have for themselves.
fn own_chains(s: &Subject) -> Result<BTreeSet<String>> {
    let kinds = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
    let chains = tables(s)?.chains("nat")?.into_iter();
    Ok(chains.filter(|name| kinds.iter().any(|kind| name.starts_with(kind))).collect())
}
