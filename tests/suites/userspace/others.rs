//! What there is in the kernel besides frontends, what others do to it, and what is theirs.

use std::io;
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result, ensure};
use testbed::mode::Tool;
use testbed::subject::Seen::AsItself;
use testbed::{Backend, Protocol, Subject, await_that, binary};

use crate::{capture_address, dns, listens, put_dns, routing};

testbed::scenarios![
    Subject:
    nobody_comes_in_but_by_a_frontend,
    endpoints_change_without_the_kernel,
    a_port_that_is_in_use_is_left_to_its_user,
    what_others_take_away_is_brought_back,
    rules_and_routes_of_others_are_left_alone,
    another_address_and_other_ports_may_be_asked_for,
    sctp_is_refused_with_a_word,
    many_services_come_and_go,
];

const PODS: [&str; 2] = ["pod-1", "remote-1"];

fn nobody_comes_in_but_by_a_frontend(s: &mut Subject) -> Result<()> {
    s.serve_web(&PODS)?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    let door = listens(s)?;
    for who in [s.client(), s.pod(3)] {
        s.dropped(who, door)?;
    }
    Ok(())
}

fn endpoints_change_without_the_kernel(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let before = s.rules().listing()?;
    for pods in [&PODS[..], &["remote-2"]] {
        s.serve_web(pods)?;
        let operations = s.last_operations()?;
        ensure!(operations == 0, "other endpoints took {operations} operations");
        s.reaches(s.pod(3), s.web_address(), pods, AsItself)?;
    }
    ensure!(s.rules().listing()? == before);
    Ok(())
}

fn a_port_that_is_in_use_is_left_to_its_user(s: &mut Subject) -> Result<()> {
    s.serve_web(&PODS)?;
    let usual = listens(s)?;
    s.proxy()?.kill()?;
    let take = || io::Result::Ok((TcpListener::bind(usual)?, UdpSocket::bind(usual)?));
    let mut user = None;
    // A program that was just being started has the sockets of who started it until it has begun.
    await_that("the port is free", || {
        user = s.bed.node.run(take)?.ok();
        Ok(user.is_some())
    })?;
    s.restart()?;
    s.proxy()?.await_line_with("in use by another program")?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    drop(user);
    Ok(())
}

/// What can be taken away.
pub(crate) fn thefts(s: &Subject) -> Result<Vec<(&'static str, Vec<String>)>> {
    let family = if capture_address(s.family())?.is_ipv4() { "-4" } else { "-6" };
    let address = capture_address(s.family())?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let mut thefts = vec![
        ("ip", format!("addr del {address}/{prefix} dev lo")),
        ("ip", format!("{family} rule del fwmark 0x2000/0x2000 lookup 7777")),
        ("ip", format!("{family} route flush table 7777")),
    ];
    let tables = if family == "-4" { "ip" } else { "ip6" };
    match s.mode().tool {
        Tool::Nft => thefts.extend([
            ("nft", format!("delete table {tables} pointsman-userspace")),
            ("nft", format!("flush chain {tables} pointsman-userspace prerouting")),
        ]),
        Tool::Iptables(backend) => {
            let program = match (backend, family) {
                (Backend::Nft, "-4") => "iptables-nft",
                (Backend::Nft, _) => "ip6tables-nft",
                (Backend::Legacy, "-4") => "iptables-legacy",
                (Backend::Legacy, _) => "ip6tables-legacy",
            };
            thefts.push((program, "-t mangle -F POINTSMAN-PREROUTING".to_owned()));
            thefts.push((program, "-t mangle -D OUTPUT -j POINTSMAN-OUTPUT".to_owned()));
        }
        Tool::Ipvs => {}
    }
    let words = |command: String| command.split(' ').map(str::to_owned).collect();
    Ok(thefts.into_iter().map(|(program, command)| (program, words(command))).collect())
}

fn what_others_take_away_is_brought_back(s: &mut Subject) -> Result<()> {
    s.serve_web(&PODS)?;
    s.proxy()?.await_quiet()?;
    for (program, words) in thefts(s)? {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        s.await_repair(|s| s.bed.node.output(program, &words).map(drop))?;
        s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)
            .with_context(|| format!("{program} {words:?}"))?;
    }
    Ok(())
}

/// Some of which look much like ours.
const FOREIGN: [&str; 7] = [
    "rule add fwmark 0x2000/0x2000 lookup 7778 priority 77",
    "rule add fwmark 0x1/0x1 lookup 7777 priority 100",
    "route add 198.51.100.0/24 dev lo table 7777",
    "-6 rule add fwmark 0x2000/0x2000 lookup 7778 priority 77",
    "-6 route add 2001:db8:9::/64 dev lo table 7777",
    "addr add 169.254.112.78/32 dev lo",
    "addr add fd70:6f69:6e74::2/128 dev lo nodad",
];

fn rules_and_routes_of_others_are_left_alone(s: &mut Subject) -> Result<()> {
    for command in FOREIGN {
        s.bed.node.output("ip", &command.split(' ').collect::<Vec<_>>())?;
    }
    s.rules().add_foreign()?;
    // The kernel makes the route after `ip` has ended.
    await_that("the address is local", || Ok(routing(s)?.contains("local fd70:6f69:6e74::2 dev lo")))?;
    let before = (routing(s)?, s.rules().listing()?);
    s.serve_all_kinds()?;
    s.check_all_kinds()?;
    ensure!(routing(s)? != before.0, "the test does not see what is added");
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = s.last_operations()?;
    ensure!(operations == 0, "a restart with nothing new took {operations} operations");
    s.proxy()?.terminate()?;
    let program = binary()?;
    let program = program.to_str().context("an odd path")?;
    s.bed.node.output(program, &["--cleanup"])?;
    let after = (routing(s)?, s.rules().listing()?);
    ensure!(after == before, "cleanup left or took too much: {before:#?} became {after:#?}");
    Ok(())
}

fn another_address_and_other_ports_may_be_asked_for(s: &mut Subject) -> Result<()> {
    let before = routing(s)?;
    let flag = ["--userspace-capture-addresses", "198.51.100.77,2001:db8:7::77"];
    s.args(&[&flag[..], &["--proxy-port-range", "5000-5001"]].concat());
    let dns = dns(s).node_port(30053);
    put_dns(s, dns, &PODS);
    s.serve_web(&PODS)?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    s.reaches_over(Protocol::Udp, s.pod(3), (s.family().cluster_ip(53), 53), &PODS, AsItself)?;
    let listed = s.bed.node.output("ss", &["-Hltun"])?;
    ensure!(listed.contains("198.51.100.77:500") || listed.contains("[2001:db8:7::77]:500"), "{listed}");
    ensure!(listens(s).is_err(), "it listens at the usual address as well: {listed}");
    // Two ports are too few for three.
    for number in [11, 12] {
        let name = format!("more-{number}");
        s.cluster.put(testbed::cluster::Service::new(&name, s.family().cluster_ip(number)).tcp("http", 80));
        let slice = s.slice(&name, &PODS);
        s.cluster.put_slice(slice);
    }
    let cluster = s.cluster.manifest();
    s.proxy()?.write("cluster.json", &cluster)?;
    let left_out = s.proxy()?.await_line_with("left out until it changes")?;
    ensure!(left_out.contains("test/more-12:http"), "{left_out}");
    s.proxy()?.await_line_with("--proxy-port-range")?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(11), 80), &PODS, AsItself)?;
    s.unanswered(s.pod(3), (s.family().cluster_ip(12), 80))?;
    s.proxy()?.terminate()?;
    let program = binary()?;
    s.bed.node.output(program.to_str().context("an odd path")?, &[&flag[..], &["--cleanup"]].concat())?;
    ensure!(routing(s)? == before, "something is left: {}", routing(s)?);
    Ok(())
}

fn sctp_is_refused_with_a_word(s: &mut Subject) -> Result<()> {
    let sctp = testbed::cluster::Service::new("signals", s.family().cluster_ip(30)).sctp("signals", 80);
    let slice = testbed::cluster::Slice::new("signals", s.family(), [s.endpoint("pod-1")]);
    s.cluster.put(sctp).put_slice(slice.port("signals", Protocol::Sctp, 8080));
    s.serve_web(&PODS)?;
    let said = s.proxy()?.await_line_with("SCTP")?;
    ensure!(said.contains("Service test/signals:") && said.contains("use nftables"), "{said}");
    s.serve_web(&["pod-1"])?;
    let again = s.proxy()?.log().lines().filter(|line| line.contains("SCTP")).count();
    ensure!(again == 1, "it is said {again} times");
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    Ok(())
}

fn many_services_come_and_go(s: &mut Subject) -> Result<()> {
    let address = |number: u8| (s.family().cluster_ip(number), 80);
    let addresses: Vec<_> = (100..140).map(address).collect();
    s.serve_web(&PODS)?;
    for _ in 0..2 {
        for number in 100..140u8 {
            let name = format!("s{number}");
            let service =
                testbed::cluster::Service::new(&name, s.family().cluster_ip(number)).tcp("http", 80);
            let pod = if number % 2 == 0 { "pod-1" } else { "pod-2" };
            let slice = s.slice(&name, &[pod]);
            s.cluster.put(service).put_slice(slice);
        }
        s.sync()?;
        for (to, pod) in addresses.iter().zip(["pod-1", "pod-2"].iter().cycle()) {
            s.reaches(s.pod(3), *to, &[pod], AsItself)?;
        }
        for number in 100..140u8 {
            s.cluster.delete(&format!("s{number}"));
        }
        s.sync()?;
        s.unanswered(s.pod(3), addresses[0])?;
        let listed = s.bed.node.output("ss", &["-Hltn"])?;
        let doors = listed.matches(&capture_address(s.family())?.to_string()).count();
        ensure!(doors == 1, "{doors} doors are open for one service port: {listed}");
    }
    Ok(())
}
