//! Telling how the rules differ from what they should be, in the words of `nft` and `iptables`.

use std::net::IpAddr;

use endpoint_cache::Family;
use kernel::iptables::Iptables as Programs;
use kernel::nft::Nftables as Connection;

use super::{Found, OwnChain, Tables, chains, own_chains, table};
use crate::difference::apart;
use crate::{Comparison, Error};

impl Tables {
    /// Tells how the rules of a family differ from what they should be.
    pub(in crate::userspace) fn compare(
        &mut self,
        family: Family,
        address: IpAddr,
        comparison: &mut Comparison,
    ) -> Result<(), Error> {
        match self {
            Self::Nftables(connection) => compare_table(connection, family, address, comparison),
            Self::Iptables(programs) => {
                let is_of_family = |programs: &&Programs| programs.ipv6() == (family == Family::V6);
                let programs = programs.iter().find(is_of_family).ok_or(Error::NoTables { family })?;
                compare_chains(programs, address, comparison)
            }
        }
    }
}

fn compare_table(
    connection: &mut Connection,
    family: Family,
    address: IpAddr,
    comparison: &mut Comparison,
) -> Result<(), Error> {
    let table = table(family);
    if !connection.tables()?.contains(&table) {
        comparison.missing(None, || format!("table {table}"));
        return Ok(());
    }
    let wanted = chains(family, address);
    let (chains, rules) = (connection.chains(&table)?, connection.rules(&table)?);
    for (chain, _) in wanted.iter().filter(|(chain, _)| !chains.contains(chain)) {
        comparison.missing(None, || format!("chain {table} {}", chain.name));
    }
    for chain in chains.iter().filter(|found| !wanted.iter().any(|(chain, _)| chain == *found)) {
        comparison.unwanted(None, || format!("chain {table} {}", chain.name));
    }
    let (wanted, found): (Vec<_>, Vec<_>) = (
        wanted.iter().map(|(chain, rule)| (chain.name.as_str(), Some(rule.fingerprint()))).collect(),
        rules.iter().map(|rule| (rule.chain.as_str(), rule.fingerprint)).collect(),
    );
    let (missing, unwanted) = apart(&wanted, &found);
    for at in missing {
        comparison.missing(None, || format!("rule of chain {table} {}", wanted[at].0));
    }
    for rule in unwanted.into_iter().map(|at| &rules[at]) {
        comparison.unwanted(None, || format!("rule of chain {table} {}: handle {}", rule.chain, rule.handle));
    }
    for set in connection.sets(&table)? {
        comparison.unwanted(None, || format!("set {table} {}", set.name));
    }
    Ok(())
}

fn compare_chains(programs: &Programs, address: IpAddr, comparison: &mut Comparison) -> Result<(), Error> {
    let found = Found::read(programs)?;
    let program = if programs.ipv6() { "ip6tables" } else { "iptables" };
    for chain in own_chains(address) {
        let OwnChain { name, from, rule } = &chain;
        if !found.chains.iter().any(|found| found == name) {
            comparison.missing(None, || format!("{program} -t mangle -N {name}"));
        }
        let rules = found.rules_of(name);
        let (missing, unwanted) = apart(&[rule.as_str()], &rules);
        missing
            .iter()
            .for_each(|_| comparison.missing(None, || format!("{program} -t mangle -A {name} {rule}")));
        for at in unwanted {
            comparison.unwanted(None, || format!("{program} -t mangle -A {name} {}", rules[at]));
        }
        if !found.rules_of(from).contains(&chain.hook().as_str()) {
            comparison.missing(None, || format!("{program} -t mangle -A {from} {}", chain.hook()));
        }
    }
    Ok(())
}
