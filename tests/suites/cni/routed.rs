//! What is particular to pods that have a veth pair each, and no bridge.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster_bed::Sniffer;
use testbed::{Family, Protocol, scenarios};

use crate::checking::host_link;
use crate::scene::{Scene, outside_address};

scenarios! { Scene:
    a_pod_has_but_its_own_address_and_a_gateway_on_the_link,
    nobody_asks_for_pods_on_the_nodes_network,
    no_source_but_its_own_gets_through,
    a_pod_uses_the_mtu_that_is_asked_for,
    routes_are_told_apart_by_their_protocol,
    an_address_of_ipv6_is_ready_at_once,
}

fn a_pod_has_but_its_own_address_and_a_gateway_on_the_link(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    let told: Value =
        serde_json::from_str(&pod.namespace.output("ip", &["-json", "address", "show", "eth0"])?)?;
    let addresses = told[0]["addr_info"].as_array().context("no addresses")?;
    for address in addresses.iter().filter(|address| address["scope"] == "global") {
        let expected = if address["family"] == "inet" { 32 } else { 128 };
        ensure!(address["prefixlen"] == expected, "{address}");
    }
    for family in s.families() {
        let (flag, link_local) = match family {
            Family::V4 => ("-4", "169.254."),
            Family::V6 => ("-6", "fe80:"),
        };
        let routes = pod.namespace.output("ip", &[flag, "route", "show", "default"])?;
        ensure!(routes.lines().count() == 1 && routes.contains(&format!("via {link_local}")), "{routes}");
    }
    // No bridge, and the node has no address of the pods' ranges.
    let there = s.there()?;
    ensure!(there.with("link: cni0").is_empty(), "there is a bridge");
    ensure!(
        there.with("address: 10.88.").is_empty() && there.with("address: fd00:88:").is_empty(),
        "{there:?}"
    );
    Ok(())
}

fn nobody_asks_for_pods_on_the_nodes_network(s: &mut Scene) -> Result<()> {
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    // What the node has to ask for itself is known beforehand.
    for family in s.families() {
        one.place().connect(Protocol::Tcp, (outside_address(*family), 1).into())?;
    }
    let sniffer = Sniffer::on(&s.outside)?;
    one.must_reach(&two)?;
    let frames = sniffer.stop();
    for family in s.families() {
        let (a, b) = (one.ip(*family)?, two.ip(*family)?);
        ensure!(!frames.iter().any(|frame| frame.is_between(a, b)), "what goes between pods is seen outside");
    }
    Ok(())
}

fn no_source_but_its_own_gets_through(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    for family in s.families() {
        let (source, length) = match family {
            Family::V4 => ("198.51.100.7", 32),
            Family::V6 => ("2001:db8::7", 128),
        };
        pod.namespace.ip(&format!("addr add {source}/{length} dev eth0 nodad"))?;
        let sniffer = Sniffer::on(&s.outside)?;
        let place = pod.place().from_address(source.parse()?);
        place.connect_briefly(Protocol::Udp, (outside_address(*family), 1).into())?;
        let frames = sniffer.stop();
        let spoofed = frames
            .iter()
            .any(|frame| frame.packet.as_ref().is_some_and(|packet| packet.source.to_string() == source));
        // IPv6 knows no reverse-path filter of its own.
        ensure!(!spoofed || *family == Family::V6, "a packet from {source} got out");
    }
    Ok(())
}

fn a_pod_uses_the_mtu_that_is_asked_for(s: &mut Scene) -> Result<()> {
    s.set("mtu", serde_json::json!(1337))?;
    let pod = s.pod("pod-1")?;
    let inside = pod.namespace.output("ip", &["link", "show", "eth0"])?;
    let outside = s.node.output("ip", &["link", "show", &host_link(&pod)?])?;
    ensure!(inside.contains("mtu 1337") && outside.contains("mtu 1337"), "{inside}{outside}");
    s.runtime.check(&s.list, &pod.attachment)
}

fn routes_are_told_apart_by_their_protocol(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    for family in s.families() {
        let flag = if *family == Family::V4 { "-4" } else { "-6" };
        let routes = s.node.output("ip", &[flag, "route", "show", "proto", "112"])?;
        let ip = pod.ip(*family)?.to_string();
        ensure!(routes.lines().any(|line| line.starts_with(&ip)), "{ip} is not in\n{routes}");
    }
    Ok(())
}

fn an_address_of_ipv6_is_ready_at_once(s: &mut Scene) -> Result<()> {
    for number in 0..5 {
        // It binds and is reached from elsewhere at the first attempt.
        let pod = s.pod(&format!("pod-{number}"))?;
        for family in s.families() {
            s.outside_must_reach(Protocol::Tcp, (pod.ip(*family)?, testbed::cni::PORT).into(), pod.name())?;
        }
        let told = pod.namespace.output("ip", &["address", "show", "eth0", "scope", "global"])?;
        ensure!(!told.contains("tentative") && !told.contains("dadfailed"), "{told}");
    }
    Ok(())
}
