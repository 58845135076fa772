//! Which back end is used, as the script decides that Kubernetes' images run in place of iptables: the one in which the
//! kubelet has a chain, nft before legacy, else the one with more rules, else nft.

use anyhow::{Result, ensure};
use testbed::subject::Seen::AsItself;
use testbed::{Backend, Family, Iptables, Subject};

use crate::{back_end, tables};

testbed::scenarios![
    Subject:
    the_back_end_with_the_kubelets_chain_is_taken,
    either_chain_of_the_kubelet_in_either_family_counts,
    the_back_end_with_more_rules_is_taken,
    on_an_empty_node_nft_is_taken,
];

fn load(s: &Subject, backend: Backend, family: Family, script: &str) -> Result<()> {
    Iptables { node: &s.bed.node, backend, family }.load(script)
}

/// So many rules of somebody else's, which do nothing.
fn rules(count: usize) -> String {
    let rule = "-A foreign -m comment --comment foreign -j RETURN\n";
    format!("*filter\n:foreign - [0:0]\n{}COMMIT\n", rule.repeat(count))
}

fn chain_in_mangle(chain: &str) -> String {
    format!("*mangle\n:{chain} - [0:0]\nCOMMIT\n")
}

/// The proxy, started without being told which, puts its rules there and nowhere else.
fn check_taken(s: &mut Subject, args: &[&str], backend: Backend) -> Result<()> {
    s.ask_for_mode(args);
    s.serve_web(&["pod-1"])?;
    for place in Backend::BOTH {
        let chains = Iptables { backend: place, ..tables(s)? }.chains("nat")?;
        let ours = chains.iter().any(|chain| chain.starts_with("KUBE-SVC-"));
        ensure!(ours == (place == backend), "with {args:?}, in {place:?} there is {chains:?}");
    }
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.proxy()?.kill()?;
    s.forget_proxy();
    Ok(())
}

const BY_DEFAULT: [&str; 2] = ["--proxy-mode", "iptables"];
const AUTO: [&str; 4] = ["--proxy-mode", "iptables", "--iptables-backend", "auto"];

fn the_back_end_with_the_kubelets_chain_is_taken(s: &mut Subject) -> Result<()> {
    let (ours, family) = (back_end(s)?, s.family());
    // However many rules there are in the other.
    load(s, ours.other(), family, &rules(50))?;
    load(s, ours, family, &chain_in_mangle("KUBE-KUBELET-CANARY"))?;
    if ours == Backend::Nft {
        load(s, Backend::Legacy, family, &chain_in_mangle("KUBE-KUBELET-CANARY"))?;
    }
    check_taken(s, &BY_DEFAULT, ours)?;
    check_taken(s, &AUTO, ours)
}

fn either_chain_of_the_kubelet_in_either_family_counts(s: &mut Subject) -> Result<()> {
    let (ours, family) = (back_end(s)?, s.family());
    load(s, ours.other(), family, &rules(50))?;
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    load(s, ours, other, &chain_in_mangle("KUBE-IPTABLES-HINT"))?;
    check_taken(s, &BY_DEFAULT, ours)
}

fn the_back_end_with_more_rules_is_taken(s: &mut Subject) -> Result<()> {
    let (ours, family) = (back_end(s)?, s.family());
    load(s, ours.other(), family, &rules(3))?;
    load(s, ours, family, &rules(4))?;
    check_taken(s, &BY_DEFAULT, ours)?;
    // Which makes them more still.
    check_taken(s, &AUTO, ours)
}

fn on_an_empty_node_nft_is_taken(s: &mut Subject) -> Result<()> {
    check_taken(s, &BY_DEFAULT, Backend::Nft)
}
