//! From kube-proxy to us and back, from one mode to another, and from one back end to the other: no connection fails, and
//! nothing is left of the old one.

use anyhow::{Result, ensure};
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES};
use testbed::subject::Seen::AsItself;
use testbed::{Backend, Mode, Proxy, Subject, under_traffic};

use crate::kube_proxy::KubeProxy;
use crate::restores::Restores;
use crate::{await_reaches, await_that, back_end, tables};

testbed::scenarios![
    Subject:
    kube_proxys_rules_are_taken_over_as_they_are,
    a_node_goes_from_kube_proxy_to_us_and_back,
    a_node_goes_from_nftables_to_iptables,
    a_node_goes_from_iptables_to_nftables,
    a_node_goes_from_one_back_end_to_the_other,
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

/// Runs one mode, then another in its place, with connections under way; then nothing is left of the first.
fn switch(s: &mut Subject, from: Mode, to: Mode, is_left: impl Fn(&Subject) -> Result<bool>) -> Result<()> {
    s.ask_for_mode(from.args);
    put_web(s);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    ensure!(is_left(s)?, "the test does not see the rules of {from:?}");
    let mut old = s.take_proxy()?;
    let mut new = None;
    let switched = under_traffic(s.pod(3).place, s.web_address(), || {
        old.kill()?;
        new = Some(Proxy::start(&s.bed.node, &s.cluster, &s.all_args_in(to))?);
        await_that(&format!("nothing is left of {}", from.name), || Ok(!is_left(s)?))
    });
    if let Some(new) = new {
        s.give_proxy(new);
    }
    switched?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    s.proxy()?.await_quiet()?;
    // It is the new one that works.
    let slice = s.slice("web", &["remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    await_reaches(s, s.web_address(), &["remote-1"])
}

fn has_nftables(s: &Subject) -> Result<bool> {
    Ok(s.bed.node.output("nft", &["list", "tables"])?.contains(" pointsman"))
}

fn has_chains(s: &Subject, mode: Mode) -> Result<bool> {
    let rules = s.rules_of(mode).listing()?;
    Ok(["KUBE-SVC-", "KUBE-SEP-", "KUBE-SERVICES"].iter().any(|chain| rules.contains(chain)))
}

fn a_node_goes_from_nftables_to_iptables(s: &mut Subject) -> Result<()> {
    switch(s, NFTABLES, s.mode(), has_nftables)
}

fn a_node_goes_from_iptables_to_nftables(s: &mut Subject) -> Result<()> {
    let mode = s.mode();
    switch(s, mode, NFTABLES, |s| has_chains(s, mode))
}

fn a_node_goes_from_one_back_end_to_the_other(s: &mut Subject) -> Result<()> {
    let mode = s.mode();
    let other = match back_end(s)? {
        Backend::Nft => IPTABLES_LEGACY,
        Backend::Legacy => IPTABLES_NFT,
    };
    switch(s, mode, other, |s| has_chains(s, mode))
}
