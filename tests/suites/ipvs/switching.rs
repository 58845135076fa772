//! From another mode to this one and back: no connection fails, and nothing is left of the old one.

use anyhow::Result;
use testbed::Subject;
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, IPVS, NFTABLES};
use testbed::subject::{has_chains, has_nftables};

use crate::servers;

testbed::scenarios![
    Subject:
    a_node_goes_from_nftables_to_ipvs,
    a_node_goes_from_ipvs_to_nftables,
    a_node_goes_from_iptables_to_ipvs,
    a_node_goes_from_ipvs_to_iptables,
    a_node_goes_from_legacy_iptables_to_ipvs,
];

fn has_ipvs(s: &Subject) -> Result<bool> {
    let sets = s.bed.node.output("ipset", &["list", "-name"])?;
    let links = s.bed.node.output("ip", &["-o", "link", "show"])?;
    Ok(!servers(s)?.is_empty() || sets.contains("KUBE-") || links.contains("kube-ipvs0"))
}

fn a_node_goes_from_nftables_to_ipvs(s: &mut Subject) -> Result<()> {
    s.switch(NFTABLES, IPVS, has_nftables)
}

fn a_node_goes_from_ipvs_to_nftables(s: &mut Subject) -> Result<()> {
    s.switch(IPVS, NFTABLES, |s| Ok(has_ipvs(s)? || has_chains(s, IPTABLES_NFT)?))
}

fn has_own_chains(s: &Subject) -> Result<bool> {
    let rules = s.rules_of(IPTABLES_NFT).listing()?;
    Ok(["KUBE-SVC-", "KUBE-SEP-", "KUBE-NODEPORTS"].iter().any(|chain| rules.contains(chain)))
}

fn a_node_goes_from_iptables_to_ipvs(s: &mut Subject) -> Result<()> {
    s.switch(IPTABLES_NFT, IPVS, has_own_chains)
}

fn a_node_goes_from_ipvs_to_iptables(s: &mut Subject) -> Result<()> {
    s.switch(IPVS, IPTABLES_NFT, has_ipvs)
}

fn a_node_goes_from_legacy_iptables_to_ipvs(s: &mut Subject) -> Result<()> {
    // Nobody else has rules to go by.
    s.switch(IPTABLES_LEGACY, IPVS, |s| Ok(servers(s)?.is_empty()))
}
