//! From kube-proxy to us and back, from one mode to another, and from one back end to the other: no connection fails, and
//! nothing is left of the old one.

use anyhow::{Result, ensure};
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES};
use testbed::subject::Seen::AsItself;
use testbed::subject::{has_chains, has_nftables};
use testbed::{Backend, Proxy, Subject, await_that, under_traffic};

use crate::kube_proxy::KubeProxy;
use crate::lock::Holder;
use crate::restores::Restores;
use crate::{back_end, tables};

testbed::scenarios![
    Subject:
    kube_proxys_rules_are_taken_over_as_they_are,
    a_node_goes_from_kube_proxy_to_us_and_back,
    a_node_goes_from_nftables_to_iptables,
    a_node_goes_from_iptables_to_nftables,
    a_node_goes_from_one_back_end_to_the_other,
    a_crash_while_the_old_rules_go_is_made_good,
];

const PODS: [&str; 2] = ["pod-1", "pod-2"];

fn put_web(s: &mut Subject) {
    let (web, slice) = (s.web(), s.slice("web", &PODS));
    s.cluster.put(web).put_slice(slice);
}

fn kube_proxys_rules_are_taken_over_as_they_are(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    KubeProxy::serving_web(s, [1, 2])?.sync(s)?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    let before = tables(s)?.content()?;
    put_web(s);
    s.sync()?;
    let after = tables(s)?.content()?;
    // In the built-in chains only the order may be another.
    let sorted = |content: &[String]| {
        let mut content = content.to_vec();
        content.sort();
        content
    };
    ensure!(sorted(&before) == sorted(&after), "{before:#?} became {after:#?}");
    // The other family had no kube-proxy.
    let ours = tables(s)?.program("-restore");
    let written: Vec<_> = restores.scripts()?.into_iter().filter(|script| script.program == ours).collect();
    ensure!(written.is_empty(), "what was right already was written again: {written:#?}");
    Ok(())
}

fn a_node_goes_from_kube_proxy_to_us_and_back(s: &mut Subject) -> Result<()> {
    let kube_proxy = KubeProxy::serving_web(s, [1, 2])?;
    kube_proxy.sync(s)?;
    let before = tables(s)?.chains("nat")?;
    put_web(s);
    let args = s.all_args();
    under_traffic(s.pod(3).place, s.web_address(), || {
        for _ in 0..2 {
            let mut proxy = Proxy::start(&s.bed.node, &s.cluster, &args)?;
            proxy.kill()?;
            let chains = tables(s)?.chains("nat")?;
            ensure!(chains == before, "chains are called otherwise: {before:#?} became {chains:#?}");
            kube_proxy.sync(s)?;
        }
        Ok(())
    })?;
    for chain in ["PREROUTING", "OUTPUT"] {
        let rules = tables(s)?.chain("nat", chain)?;
        let hooks = rules.iter().filter(|rule| rule.ends_with("-j KUBE-SERVICES")).count();
        ensure!(hooks == 1, "{chain} has {hooks} jumps to KUBE-SERVICES: {rules:#?}");
    }
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    Ok(())
}

fn a_node_goes_from_nftables_to_iptables(s: &mut Subject) -> Result<()> {
    s.switch(NFTABLES, s.mode(), has_nftables).map(drop)
}

fn a_node_goes_from_iptables_to_nftables(s: &mut Subject) -> Result<()> {
    let mode = s.mode();
    s.switch(mode, NFTABLES, |s| has_chains(s, mode)).map(drop)
}

fn a_node_goes_from_one_back_end_to_the_other(s: &mut Subject) -> Result<()> {
    let mode = s.mode();
    let other = match back_end(s)? {
        Backend::Nft => IPTABLES_LEGACY,
        Backend::Legacy => IPTABLES_NFT,
    };
    s.switch(mode, other, |s| has_chains(s, mode)).map(drop)
}

/// What holds up that the old rules go is the lock that they take.
fn a_crash_while_the_old_rules_go_is_made_good(s: &mut Subject) -> Result<()> {
    let to = if back_end(s)? == Backend::Nft { IPTABLES_NFT } else { NFTABLES };
    s.ask_for_mode(IPTABLES_LEGACY.args);
    s.put_for_under_way();
    s.sync()?;
    let mut under_way = s.begin()?;
    let mut old = s.take_proxy()?;
    let mut new = None;
    under_way.go_on_while(|| {
        under_traffic(s.pod(3).place, s.web_address(), || {
            old.kill()?;
            let holder = Holder::new()?;
            let mut crashing = Proxy::start(&s.bed.node, &s.cluster, &s.all_args_in(to))?;
            await_that("it waits for the lock", || crashing.is_running("legacy-restore"))?;
            crashing.kill()?;
            holder.release()?;
            ensure!(has_chains(s, IPTABLES_LEGACY)?, "the old rules have gone without the lock");
            new = Some(Proxy::start(&s.bed.node, &s.cluster, &s.all_args_in(to))?);
            await_that("the old rules are gone", || Ok(!has_chains(s, IPTABLES_LEGACY)?))
        })
    })
}
