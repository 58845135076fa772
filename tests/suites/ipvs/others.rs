//! What is not ours, and what kube-proxy left.

use anyhow::{Result, ensure};
use testbed::rules::Edit;
use testbed::{Subject, await_that, binary};

use crate::{at, ipvsadm, servers, set};

testbed::scenarios![
    Subject:
    virtual_servers_of_others_are_left_alone,
    virtual_servers_within_excluded_ranges_are_never_removed,
    small_sets_of_kube_proxy_are_replaced_while_rules_use_them,
    a_destination_that_others_remove_comes_back,
    nothing_is_repaired_that_nobody_damaged,
];

fn virtual_servers_of_others_are_left_alone(s: &mut Subject) -> Result<()> {
    let (node, pod) = (s.family().node(), s.family().pod(0, 1));
    let foreign = at(node, 4430);
    ipvsadm(s, &format!("-A -t {foreign} -s wlc"))?;
    ipvsadm(s, &format!("-a -t {foreign} -r {} -m -w 5", at(pod, 443)))?;
    let mark = if s.family() == testbed::Family::V6 { " -6" } else { "" };
    ipvsadm(s, &format!("-A -f 77{mark} -s rr"))?;
    let count = |s: &Subject| -> Result<usize> {
        let listed = servers(s)?;
        Ok(listed.lines().filter(|line| line.contains(&foreign) || line.contains("-f 77")).count())
    };
    ensure!(count(s)? == 3, "{}", servers(s)?);
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    s.serve_web(&["pod-1", "pod-2"])?;
    s.proxy()?.kill()?;
    s.restart()?;
    ensure!(count(s)? == 3, "{}", servers(s)?);
    s.proxy()?.terminate()?;
    let program = binary()?;
    s.bed.node.output(&program.to_string_lossy(), &["--cleanup"])?;
    let left = servers(s)?;
    ensure!(count(s)? == 3 && left.lines().count() == 3, "{left}");
    Ok(())
}

fn virtual_servers_within_excluded_ranges_are_never_removed(s: &mut Subject) -> Result<()> {
    let range = s.family().service_cidr();
    s.args(&["--ipvs-exclude-cidrs", range]);
    s.serve_web(&["pod-1"])?;
    s.proxy()?.terminate()?;
    s.cluster.delete("web");
    s.restart()?;
    ensure!(servers(s)?.contains(&at(s.family().cluster_ip(10), 80)), "{}", servers(s)?);
    Ok(())
}

/// Its sets take 65,536 entries.
fn small_sets_of_kube_proxy_are_replaced_while_rules_use_them(s: &mut Subject) -> Result<()> {
    let name = set(s, "CLUSTER-IP");
    let family = if s.family() == testbed::Family::V6 { "inet6" } else { "inet" };
    let stale = s.family().cluster_ip(99);
    s.bed.node.feed(
        "ipset",
        &["restore"],
        &format!("create {name} hash:ip,port family {family} maxelem 65536\nadd {name} {stale},tcp:80\n"),
    )?;
    ipvsadm(s, &format!("-A -t {} -s rr", at(stale, 80)))?;
    let program = if family == "inet6" { "ip6tables-nft" } else { "iptables-nft" };
    let rule =
        ["-t", "mangle", "-A", "FORWARD", "-m", "set", "--match-set", &name, "dst,dst", "-j", "RETURN"];
    s.bed.node.output(program, &rule)?;
    s.serve_web(&["pod-1"])?;
    let header = s.bed.node.output("ipset", &["list", "-terse", &name])?;
    ensure!(header.contains("maxelem 1048576"), "{header}");
    let saved = s.bed.node.output("ipset", &["save", &name])?;
    ensure!(!saved.contains(&format!("{stale}")), "what is not there any more is in the set: {saved}");
    ensure!(!servers(s)?.contains(&at(stale, 80)), "kube-proxy's virtual server is left: {}", servers(s)?);
    let rules = s.bed.node.output(&format!("{program}-save"), &["-t", "mangle"])?;
    ensure!(rules.contains(&format!("--match-set {name} dst,dst -j RETURN")), "{rules}");
    Ok(())
}

/// The number of virtual servers tells nothing of that; everything is read back once in a while.
fn a_destination_that_others_remove_comes_back(s: &mut Subject) -> Result<()> {
    s.args(&["--ipvs-sync-period", "1s"]);
    s.serve_web(&["pod-1", "pod-2"])?;
    s.rules().edit(Edit::RemoveEndpoints)?;
    s.await_reaches(s.web_address(), &["pod-1", "pod-2"])
}

fn nothing_is_repaired_that_nobody_damaged(s: &mut Subject) -> Result<()> {
    s.args(&["--ipvs-sync-period", "1s"]);
    s.serve_all_kinds()?;
    for pods in [&["pod-1"][..], &["pod-1", "pod-2"], &[], &["remote-1"]] {
        s.serve_web(pods)?;
    }
    let before = s.rules().listing()?;
    let serial = |s: &mut Subject| -> Result<usize> { Ok(s.proxy()?.log().matches(" synced ").count()) };
    let so_far = serial(s)?;
    let proxy = s.take_proxy()?;
    await_that("it is compared", || Ok(proxy.log().matches(" synced ").count() > so_far))?;
    s.give_proxy(proxy);
    let log = s.proxy()?.log();
    ensure!(!log.contains("repairing"), "{log}");
    let after = s.rules().listing()?;
    ensure!(before == after, "{before}\nbecame\n{after}");
    Ok(())
}
