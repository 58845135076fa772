//! Rules of others, beside ours and leading to ours.

use anyhow::{Result, ensure};
use testbed::cluster::Service;
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT};
use testbed::rules::Edit;
use testbed::subject::Seen::AsItself;
use testbed::{Backend, Subject, await_that, binary};

use crate::{back_end, tables};

testbed::scenarios![
    Subject:
    foreign_rules_that_lead_to_our_chains_stop_nothing,
    changes_of_others_beside_ours_change_nothing,
    the_other_back_end_is_left_alone,
    damage_right_after_the_first_sync_is_repaired,
    cleanup_leaves_nothing_where_no_kubelet_is,
    hooks_stay_in_front_and_are_there_once,
];

/// Chains that others' rules lead to cannot be deleted.
fn foreign_rules_that_lead_to_our_chains_stop_nothing(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    let chain = tables(s)?.target("nat", "KUBE-SERVICES", "\"test/web:http cluster IP\"")?;
    let endpoint = tables(s)?.target("nat", &chain, "-j KUBE-SEP-")?;
    tables(s)?.load(&format!(
        "*nat\n:foreign - [0:0]\n-A foreign -p udp -j {chain}\n-A foreign -p udp -j {endpoint}\nCOMMIT\n"
    ))?;
    let before = tables(s)?.chain("nat", "foreign")?;
    // The endpoint goes, then the whole service.
    s.serve_web(&["remote-1"])?;
    s.await_reaches(s.web_address(), &["remote-1"])?;
    s.cluster.delete("web").delete_slice("web");
    s.sync()?;
    await_that("nobody leads to web", || Ok(s.unanswered(s.pod(3), s.web_address()).is_ok()))?;
    // Everything else goes on, and on, after a restart too.
    let shop = (s.family().cluster_ip(11), 80).into();
    for round in 0..2 {
        for pods in [&["pod-1"][..], &["pod-2", "remote-1"]] {
            let slice = s.slice("shop", pods);
            s.cluster.put(Service::new("shop", s.family().cluster_ip(11)).tcp("http", 80)).put_slice(slice);
            s.sync()?;
            s.await_reaches(shop, pods)?;
        }
        if round == 0 {
            s.proxy()?.kill()?;
            s.restart()?;
        }
    }
    let after = tables(s)?.chain("nat", "foreign")?;
    ensure!(before == after, "the foreign rules were changed: {before:#?} became {after:#?}");
    // And the service may come back.
    s.serve_web(&["pod-1"])?;
    s.await_reaches(s.web_address(), &["pod-1"])
}

fn changes_of_others_beside_ours_change_nothing(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    // It may be looked into; there is nothing to be done about it.
    s.rules().add_foreign()?;
    s.proxy()?.await_quiet()?;
    let before = s.rules().listing()?;
    let slice = s.slice("web", &["pod-1", "pod-2"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    let slice = s.slice("web", &["pod-1", "pod-2", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.await_reaches(s.web_address(), &["pod-1", "pod-2", "remote-1"])?;
    s.check_all_kinds()?;
    let after = s.rules().listing()?;
    ensure!(before == after, "{before}\nbecame\n{after}");
    s.proxy()?.kill()?;
    s.restart()?;
    ensure!(s.last_operations()? == 0, "something was left to do beside others' rules");
    Ok(())
}

fn the_other_back_end_is_left_alone(s: &mut Subject) -> Result<()> {
    let other = match back_end(s)? {
        Backend::Nft => IPTABLES_LEGACY,
        Backend::Legacy => IPTABLES_NFT,
    };
    s.rules_of(other).add_foreign()?;
    let before = s.rules_of(other).listing()?;
    s.serve_all_kinds()?;
    s.proxy()?.kill()?;
    s.restart()?;
    s.check_all_kinds()?;
    let after = s.rules_of(other).listing()?;
    ensure!(before == after, "the other back end was changed:\n{before}became\n{after}");
    Ok(())
}

/// Somebody may be about before the proxy has begun to listen.
fn damage_right_after_the_first_sync_is_repaired(s: &mut Subject) -> Result<()> {
    // There is something to look through for what other modes left, which takes a while.
    for mode in [IPTABLES_LEGACY, IPTABLES_NFT] {
        s.rules_of(mode).add_foreign()?;
    }
    for _ in 0..5 {
        s.serve_web(&["pod-1"])?;
        s.rules().edit(Edit::RemoveService)?;
        s.await_reaches(s.web_address(), &["pod-1"])?;
        s.proxy()?.kill()?;
        s.forget_proxy();
    }
    Ok(())
}

fn cleanup_leaves_nothing_where_no_kubelet_is(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    s.proxy()?.terminate()?;
    let program = binary()?;
    s.bed.node.output(&program.to_string_lossy(), &["--cleanup"])?;
    let left = s.rules().listing()?;
    ensure!(left.is_empty(), "cleanup left\n{left}");
    Ok(())
}

/// Others put rules before and behind ours.
fn hooks_stay_in_front_and_are_there_once(s: &mut Subject) -> Result<()> {
    let accept = "-p tcp -m comment --comment foreign -j RETURN";
    tables(s)?.load(&format!("*nat\n-A PREROUTING {accept}\n-A OUTPUT {accept}\nCOMMIT\n"))?;
    s.serve_web(&["pod-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    for _ in 0..2 {
        s.proxy()?.kill()?;
        s.restart()?;
    }
    for chain in ["PREROUTING", "OUTPUT"] {
        let rules = tables(s)?.chain("nat", chain)?;
        let place = rules.iter().position(|rule| rule.ends_with("-j KUBE-SERVICES"));
        let foreign = rules.iter().position(|rule| rule.contains("foreign"));
        ensure!(place < foreign, "what others return is not served: {rules:#?}");
        let count = rules.iter().filter(|rule| rule.ends_with("-j KUBE-SERVICES")).count();
        ensure!(count == 1, "{chain} has {count} hooks: {rules:#?}");
    }
    Ok(())
}
