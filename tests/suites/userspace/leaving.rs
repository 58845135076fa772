//! From other modes to this one and back: nothing is left of the old one.

use anyhow::{Context, Result, ensure};
use testbed::cluster::Service;
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, Mode, NFTABLES, USERSPACE, USERSPACE_IPTABLES};
use testbed::subject::Seen::AsItself;
use testbed::subject::answerer;
use testbed::{Proxy, Subject, await_that, under_traffic};

use crate::others::thefts;
use crate::{capture_address, dns, put_dns, routing};

testbed::scenarios![
    Subject:
    a_node_goes_to_nftables_and_back,
    a_node_goes_to_iptables_and_back,
    a_node_goes_to_another_way_of_leading_traffic,
    no_new_connection_fails_on_the_way_to_other_modes_and_back,
    without_the_process_the_kernel_leads_to_endpoints,
    a_process_that_ends_before_a_repair_hands_over_too,
];

const PODS: [&str; 2] = ["pod-1", "remote-1"];

/// What is there of this mode besides frontends.
fn remains(s: &Subject) -> Result<String> {
    let mut found = routing(s)?;
    for (program, args) in [
        ("nft", &["list", "tables"][..]),
        ("iptables-legacy-save", &["-t", "mangle"]),
        ("ip6tables-legacy-save", &["-t", "mangle"]),
        ("iptables-nft-save", &["-t", "mangle"]),
        ("ip6tables-nft-save", &["-t", "mangle"]),
    ] {
        found += &s.bed.node.output(program, args)?;
    }
    let words = ["7777", "169.254.112.77", "fd70:6f69", "pointsman-userspace", "POINTSMAN"];
    let ours = found.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    Ok(ours.map(|line| format!("{line}\n")).collect())
}

fn run_in(s: &mut Subject, mode: Mode) -> Result<()> {
    if let Ok(mut proxy) = s.take_proxy() {
        proxy.kill()?;
    }
    s.forget_proxy();
    s.ask_for_mode(mode.args);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    Ok(())
}

fn to_and_back(s: &mut Subject, other: Mode) -> Result<()> {
    let (own, dns) = (s.mode(), dns(s));
    put_dns(s, dns, &PODS);
    let (web, slice) = (s.web(), s.slice("web", &PODS));
    s.cluster.put(web).put_slice(slice);
    run_in(s, own)?;
    ensure!(!remains(s)?.is_empty(), "the test does not see what there is of {}", own.name);
    let flow = s.pod(3).place.flow((s.family().cluster_ip(53), 53).into())?;
    let answered = |outcome| answerer(&outcome).map(drop);
    answered(flow.ask()?)?;
    run_in(s, other)?;
    await_that(&format!("nothing is left of {}", own.name), || Ok(remains(s)?.is_empty()))?;
    // A flow that went through the process goes on without it.
    answered(flow.ask()?)?;
    run_in(s, own)?;
    answered(flow.ask()?)
}

fn a_node_goes_to_nftables_and_back(s: &mut Subject) -> Result<()> {
    to_and_back(s, NFTABLES)
}

fn a_node_goes_to_iptables_and_back(s: &mut Subject) -> Result<()> {
    to_and_back(s, IPTABLES_NFT)?;
    to_and_back(s, IPTABLES_LEGACY)
}

fn a_node_goes_to_another_way_of_leading_traffic(s: &mut Subject) -> Result<()> {
    let own = s.mode();
    let other = if own == USERSPACE { USERSPACE_IPTABLES } else { USERSPACE };
    let (web, slice) = (s.web(), s.slice("web", &PODS));
    s.cluster.put(web).put_slice(slice);
    run_in(s, own)?;
    run_in(s, other)?;
    let table = "pointsman-userspace";
    let is_nft = other == USERSPACE;
    await_that("only one way is left", || {
        let found = remains(s)?;
        Ok(found.contains(table) == is_nft && found.contains("POINTSMAN") != is_nft)
    })?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    Ok(())
}

/// Asks one process to end, and then starts the next, while a pod, the node and an outsider connect without pause.
fn no_new_connection_fails_on_the_way_to_other_modes_and_back(s: &mut Subject) -> Result<()> {
    let own = s.mode();
    let (web, slice) = (s.web().node_port(30080), s.slice("web", &PODS));
    s.cluster.put(web).put_slice(slice);
    run_in(s, NFTABLES)?;
    let mut proxy = s.take_proxy()?;
    let (web, node_port) = (s.web_address(), (s.family().node(), 30080).into());
    let mut switch = || -> Result<()> {
        for mode in [own, own, IPTABLES_LEGACY, own, NFTABLES] {
            proxy.terminate()?;
            proxy = Proxy::start(&s.bed.node, &s.cluster, &s.all_args_in(mode))?;
        }
        Ok(())
    };
    let from_node = || under_traffic(s.node().place, web, &mut switch);
    let result = under_traffic(s.pod(3).place, web, || under_traffic(s.client().place, node_port, from_node));
    s.give_proxy(proxy);
    result?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    Ok(())
}

fn without_the_process_the_kernel_leads_to_endpoints(s: &mut Subject) -> Result<()> {
    let headed = Service::new("headed", s.family().cluster_ip(11)).tcp("http", 80);
    let headed = headed.annotated("pointsman.dev/proxy-protocol", "v2");
    let slice = s.slice("headed", &PODS);
    s.cluster.put(headed).put_slice(slice);
    let dns = dns(s);
    put_dns(s, dns, &PODS);
    s.serve_web(&PODS)?;
    let flow = s.pod(3).place.flow((s.family().cluster_ip(53), 53).into())?;
    let conversation = s.pod(3).place.open(s.web_address())?;
    answerer(&flow.ask()?)?;
    s.proxy()?.terminate()?;
    drop(conversation);
    let address = capture_address(s.family())?.to_string();
    ensure!(
        routing(s)?.contains(&address),
        "without {address}, the kernel cuts connections of the next process"
    );
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    answerer(&flow.ask()?)?;
    // Endpoints would miss the header.
    s.refused(s.pod(3), (s.family().cluster_ip(11), 80))?;
    s.restart()?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    answerer(&flow.ask()?).map(drop)
}

fn a_process_that_ends_before_a_repair_hands_over_too(s: &mut Subject) -> Result<()> {
    s.serve_web(&PODS)?;
    s.proxy()?.await_quiet()?;
    let thefts = thefts(s)?;
    let flushed =
        thefts.iter().find(|(_, words)| words.iter().any(|word| ["chain", "-F"].contains(&word.as_str())));
    let (program, words) = flushed.context("nothing can be flushed")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut proxy = s.take_proxy()?;
    let flush = || s.bed.node.output(program, &words).map(drop);
    proxy.await_sync_after(flush)?;
    // The next repair waits for a while, which is when the process is asked to end.
    proxy.await_line_after("repairing what of it is ours", flush)?;
    proxy.terminate()?;
    s.give_proxy(proxy);
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    Ok(())
}
