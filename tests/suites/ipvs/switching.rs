//! From another mode to this one and back: no connection breaks or fails, and nothing is left of the old one when its
//! connections have ended.

use anyhow::{Context, Result, ensure};
use testbed::cluster::{Service, Slice};
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, IPVS, NFTABLES};
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::subject::{answerer, has_chains, has_nftables};
use testbed::{Mode, POD_PORT, Protocol, Subject, await_that, binary};

use crate::{at, servers};

testbed::scenarios![
    Subject:
    a_node_goes_from_nftables_to_ipvs,
    a_node_goes_from_ipvs_to_nftables,
    a_node_goes_from_iptables_to_ipvs,
    a_node_goes_from_ipvs_to_iptables,
    a_node_goes_from_legacy_iptables_to_ipvs,
    a_node_goes_from_ipvs_to_legacy_iptables,
    ipvs_is_gone_when_its_connections_are,
    a_udp_flow_that_ipvs_forgets_goes_on_in_the_new_mode,
    a_node_comes_back_to_ipvs_while_it_is_leaving,
    the_node_itself_connects_while_ipvs_is_leaving,
];

fn has_ipvs(s: &Subject) -> Result<bool> {
    let sets = s.bed.node.output("ipset", &["list", "-name"])?;
    let links = s.bed.node.output("ip", &["-o", "link", "show"])?;
    Ok(!servers(s)?.is_empty() || sets.contains("KUBE-") || links.contains("kube-ipvs0"))
}

/// What does not stay for connections under way: the rules, and an idle service.
fn has_what_goes_at_once(s: &Subject) -> Result<bool> {
    let mut rules = String::new();
    for back_end in [IPTABLES_NFT, IPTABLES_LEGACY] {
        rules += &s.rules_of(back_end).listing()?;
    }
    Ok(rules.contains("KUBE-IPVS-FILTER") || servers(s)?.contains(&at(s.family().cluster_ip(99), 80)))
}

fn to_ipvs(s: &mut Subject, from: Mode, is_left: impl Fn(&Subject) -> Result<bool>) -> Result<()> {
    s.switch(from, IPVS, is_left).map(drop)
}

/// Its connections go on as long as they like; who does not want to wait for them cleans up.
fn from_ipvs(s: &mut Subject, to: Mode) -> Result<()> {
    put(s, "idle", 99);
    let mut under_way = s.switch(IPVS, to, has_what_goes_at_once)?;
    ensure!(has_ipvs(s)?, "IPVS does not carry what goes on");
    s.proxy()?.kill()?;
    s.restart()?;
    under_way.go_on().context("after a restart")?;
    s.proxy()?.kill()?;
    s.bed.node.output(&binary()?.to_string_lossy(), &["--cleanup"])?;
    ensure!(!has_ipvs(s)?, "{}", servers(s)?);
    Ok(())
}

fn put(s: &mut Subject, name: &str, cluster_ip: u8) {
    let slice = s.slice(name, &["pod-1"]);
    let service = Service::new(name, s.family().cluster_ip(cluster_ip)).tcp("http", 80);
    s.cluster.put(service).put_slice(slice);
}

fn a_node_goes_from_nftables_to_ipvs(s: &mut Subject) -> Result<()> {
    to_ipvs(s, NFTABLES, has_nftables)
}

fn a_node_goes_from_ipvs_to_nftables(s: &mut Subject) -> Result<()> {
    from_ipvs(s, NFTABLES)
}

fn has_own_chains(s: &Subject, mode: Mode) -> Result<bool> {
    let rules = s.rules_of(mode).listing()?;
    Ok(["KUBE-SVC-", "KUBE-SEP-", "KUBE-NODEPORTS"].iter().any(|chain| rules.contains(chain)))
}

fn a_node_goes_from_iptables_to_ipvs(s: &mut Subject) -> Result<()> {
    to_ipvs(s, IPTABLES_NFT, |s| has_own_chains(s, IPTABLES_NFT))
}

fn a_node_goes_from_ipvs_to_iptables(s: &mut Subject) -> Result<()> {
    from_ipvs(s, IPTABLES_NFT)
}

fn a_node_goes_from_legacy_iptables_to_ipvs(s: &mut Subject) -> Result<()> {
    to_ipvs(s, IPTABLES_LEGACY, |s| has_own_chains(s, IPTABLES_LEGACY))
}

fn a_node_goes_from_ipvs_to_legacy_iptables(s: &mut Subject) -> Result<()> {
    from_ipvs(s, IPTABLES_LEGACY)
}

/// Ends the process, and starts another in its place.
fn start_in(s: &mut Subject, mode: Mode) -> Result<()> {
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.ask_for_mode(mode.args);
    s.sync()
}

fn ipvs_is_gone_when_its_connections_are(s: &mut Subject) -> Result<()> {
    put(s, "web", 10);
    s.sync()?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    start_in(s, NFTABLES)?;
    await_that("the rules are gone", || Ok(!has_chains(s, IPTABLES_NFT)?))?;
    conversation.echo()?;
    // A crash meanwhile is no matter.
    s.proxy()?.kill()?;
    s.restart()?;
    conversation.echo()?;
    ensure!(servers(s)?.contains(&at(s.family().cluster_ip(10), 80)), "{}", servers(s)?);
    // IPVS remembers a connection that is reset for ten seconds only.
    conversation.reset()?;
    s.proxy()?.await_line_with("nothing is left of ipvs mode")?;
    ensure!(!has_ipvs(s)?, "{}", servers(s)?);
    Ok(())
}

fn a_udp_flow_that_ipvs_forgets_goes_on_in_the_new_mode(s: &mut Subject) -> Result<()> {
    let address = (s.family().cluster_ip(53), 53).into();
    let slice = Slice::new("dns", s.family(), [s.endpoint("pod-1")]).port("dns", Protocol::Udp, POD_PORT);
    let dns = Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53);
    s.cluster.put(dns).put_slice(slice);
    s.args(&["--ipvs-udp-timeout", "8s"]);
    s.sync()?;
    let flow = s.pod(3).place.flow(address)?;
    answerer(&flow.ask()?)?;
    start_in(s, NFTABLES)?;
    answerer(&flow.ask()?)?;
    s.proxy()?.await_line_with("nothing is left of ipvs mode")?;
    answerer(&flow.ask()?).map(drop)
}

fn a_node_comes_back_to_ipvs_while_it_is_leaving(s: &mut Subject) -> Result<()> {
    put(s, "web", 10);
    s.sync()?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    start_in(s, NFTABLES)?;
    let wound_down = || Ok(servers(s)?.lines().any(|line| line.ends_with("-w 0")));
    await_that("its server gets nothing new", wound_down)?;
    start_in(s, IPVS)?;
    ensure!(!servers(s)?.contains("-w 0"), "{}", servers(s)?);
    s.await_reaches(s.web_address(), &["pod-1"])?;
    conversation.echo()
}

/// Without local detection, nothing masquerades the node's own connections: it must not take the ClusterIP as its address.
fn the_node_itself_connects_while_ipvs_is_leaving(s: &mut Subject) -> Result<()> {
    s.only_args(&[]);
    let slice = s.slice("web", &["remote-1"]);
    let web = s.web();
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    let mut under_way = [s.node().place.open(s.web_address())?, s.pod(3).place.open(s.web_address())?];
    start_in(s, NFTABLES)?;
    await_that("the rules are gone", || Ok(!has_chains(s, IPTABLES_NFT)?))?;
    let address = s.family().cluster_ip(10).to_string();
    await_that("the address leaves the device", || {
        Ok(!s.bed.node.output("ip", &["address", "show", "dev", "kube-ipvs0"])?.contains(&address))
    })?;
    let web = at(s.family().cluster_ip(10), 80);
    ensure!(servers(s)?.contains(&web), "IPVS does not carry what goes on: {}", servers(s)?);
    s.reaches(s.node(), s.web_address(), &["remote-1"], AsItself)?;
    start_in(s, IPVS)?;
    await_that("the rules of nftables are gone", || Ok(!has_nftables(s)?))?;
    s.reaches(s.node(), s.web_address(), &["remote-1"], Masqueraded)?;
    under_way.iter_mut().try_for_each(testbed::Conversation::echo)?;
    s.proxy()?.kill()?;
    s.bed.node.output(&binary()?.to_string_lossy(), &["--cleanup"])?;
    let local = s.bed.node.output("ip", &["route", "show", "table", "all", "type", "local"])?;
    ensure!(!has_ipvs(s)? && !local.contains("172.30."), "{local}");
    Ok(())
}
