//! Ours among others: plugins before and behind, other people's IPAM, and ours for other people.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cni::{Attachment, PORT, Pod, refused};
use testbed::{Family, Outcome, Place, Protocol, scenarios};

use crate::scene::{Path, Scene, node_address, outside_address, plugin, ranges};

scenarios! { Scene:
    ours_with_their_ipam,
    theirs_with_our_ipam,
    their_port_mapping_and_firewall_behind_ours,
    what_earlier_plugins_made_is_kept,
    ports_of_the_node_lead_to_pods,
    a_port_of_one_address_is_no_other,
    a_port_that_is_taken_is_refused,
    a_flow_follows_its_port_to_the_next_pod,
    a_pod_reaches_itself_by_its_port,
    rates_are_kept,
}

fn ours_with_their_ipam(s: &mut Scene) -> Result<()> {
    let ipam = json!({ "type": "host-local", "ranges": ranges(s.stack), "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] });
    s.set("ipam", ipam)?;
    let before = s.ground()?;
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    one.must_reach(&two)?;
    s.runtime.check(&s.list, &one.attachment)?;
    let file = format!("/pods/{}", one.ip(s.families()[0])?);
    ensure!(!s.there()?.with(&file).is_empty(), "host-local has no {file}");
    s.detach(&one)?;
    s.detach(&two)?;
    s.must_be_as(&before)
}

fn theirs_with_our_ipam(s: &mut Scene) -> Result<()> {
    let mut theirs = plugin(Path::Reference, &ranges(s.stack));
    theirs["ipam"]["type"] = json!("pointsman-ipam");
    s.list.plugins = vec![theirs];
    let before = s.ground()?;
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    one.must_reach(&two)?;
    s.runtime.check(&s.list, &one.attachment)?;
    s.detach(&one)?;
    s.detach(&two)?;
    s.must_be_as(&before)
}

fn mapping(ports: &[(u16, &str)]) -> Value {
    let mapped = |(port, protocol): &(u16, &str)| json!({ "hostPort": port, "containerPort": PORT, "protocol": protocol });
    ports.iter().map(mapped).collect()
}

fn their_port_mapping_and_firewall_behind_ours(s: &mut Scene) -> Result<()> {
    s.set("capabilities", json!({}))?;
    let ports = json!({ "type": "portmap", "snat": true, "capabilities": { "portMappings": true } });
    s.list = s.list.clone().then(json!({ "type": "firewall", "backend": "iptables" })).then(ports);
    let how = |attachment: Attachment| attachment.capability("portMappings", mapping(&[(8081, "tcp")]));
    let before = s.ground_of(how)?;
    let mut pod = Pod::new("pod-1")?;
    pod.attachment = how(pod.attachment);
    s.attach(&mut pod)?;
    pod.answer()?;
    for family in s.families() {
        s.outside_must_reach(Protocol::Tcp, (node_address(*family), 8081).into(), "pod-1")?;
    }
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn what_earlier_plugins_made_is_kept(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let mut list = s.list.clone();
    list.plugins.insert(0, json!({ "type": "loopback" }));
    let mut pod = Pod::new("pod-1")?;
    let mut loopback = pod.attachment.clone().interface("lo");
    loopback.container = "pod-1".to_owned();
    let one = testbed::cni::List::new("loopback", "1.0.0").then(json!({ "type": "loopback" }));
    let earlier = s.runtime.add(&one, &loopback)?;
    s.set("prevResult", earlier.clone())?;
    s.attach(&mut pod)?;
    let interfaces = pod.result["interfaces"].as_array().context("no interfaces")?;
    ensure!(interfaces.iter().any(|interface| interface["name"] == "lo"), "{}", pod.result);
    // What an address belongs to is told by its place, so places must be kept.
    for ip in pod.result["ips"].as_array().context("no ips")? {
        let place = usize::try_from(ip["interface"].as_u64().context("no interface")?)?;
        let expected = if ip["address"].as_str().is_some_and(is_loopback) { "lo" } else { "eth0" };
        ensure!(interfaces[place]["name"] == expected, "{}", pod.result);
    }
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("127.") || address.starts_with("::1/")
}

fn ports_of_the_node_lead_to_pods(s: &mut Scene) -> Result<()> {
    let how = |attachment: Attachment| {
        attachment.capability("portMappings", mapping(&[(8081, "tcp"), (8082, "udp"), (8083, "TCP")]))
    };
    let before = s.ground_of(how)?;
    let mut pod = Pod::new("pod-1")?;
    pod.attachment = how(pod.attachment);
    s.attach(&mut pod)?;
    pod.answer()?;
    s.runtime.check(&s.list, &pod.attachment)?;
    let other = s.pod("pod-2")?;
    for family in s.families() {
        for (protocol, port) in [(Protocol::Tcp, 8081), (Protocol::Udp, 8082), (Protocol::Tcp, 8083)] {
            let to = (node_address(*family), port).into();
            s.outside_must_reach(protocol, to, "pod-1")?;
            for (who, place) in [("node", Place::of(&s.node)), ("pod-2", other.place())] {
                let outcome = place.connect(protocol, to)?;
                ensure!(is_answered(&outcome, "pod-1"), "{who} to {to}: {outcome}");
            }
        }
        // What is mapped in one protocol is not in the other.
        let outcome =
            Place::of(&s.outside).connect_briefly(Protocol::Udp, (node_address(*family), 8081).into())?;
        ensure!(!is_answered(&outcome, "pod-1"), "UDP: {outcome}");
        // Who comes from outside is seen as itself.
        let outcome = Place::of(&s.outside).connect(Protocol::Tcp, (node_address(*family), 8081).into())?;
        let seen_as = outside_address(*family);
        ensure!(outcome == Outcome::Answered { by: "pod-1".to_owned(), seen_as }, "{outcome}");
    }
    if s.families().contains(&Family::V4) {
        let outcome = Place::of(&s.node).connect(Protocol::Tcp, ([127, 0, 0, 1], 8081).into())?;
        ensure!(is_answered(&outcome, "pod-1"), "the node to its loopback address: {outcome}");
    }
    s.detach(&pod)?;
    s.detach(&other)?;
    s.must_be_as(&before)
}

fn is_answered(outcome: &Outcome, name: &str) -> bool {
    matches!(outcome, Outcome::Answered { by, .. } if by == name)
}

fn a_port_of_one_address_is_no_other(s: &mut Scene) -> Result<()> {
    let family = s.families()[0];
    let second = match family {
        Family::V4 => "192.168.0.20",
        Family::V6 => "fd00:192:168::20",
    };
    let length = if family == Family::V4 { 24 } else { 64 };
    s.node.ip(&format!("addr add {second}/{length} dev eth0 nodad"))?;
    let mut pod = Pod::new("pod-1")?;
    let mapped = json!([{ "hostPort": 8081, "containerPort": PORT, "protocol": "tcp", "hostIP": second }]);
    pod.attachment = pod.attachment.capability("portMappings", mapped);
    s.attach(&mut pod)?;
    pod.answer()?;
    s.outside_must_reach(Protocol::Tcp, (second.parse::<std::net::IpAddr>()?, 8081).into(), "pod-1")?;
    let outcome = Place::of(&s.outside).connect(Protocol::Tcp, (node_address(family), 8081).into())?;
    ensure!(outcome == Outcome::Refused, "another address: {outcome}");
    s.runtime.check(&s.list, &pod.attachment)
}

fn a_port_that_is_taken_is_refused(s: &mut Scene) -> Result<()> {
    let how = |attachment: Attachment| attachment.capability("portMappings", mapping(&[(8081, "tcp")]));
    let mut pod = Pod::new("pod-1")?;
    pod.attachment = how(pod.attachment);
    s.attach(&mut pod)?;
    pod.answer()?;
    let before = s.there()?;
    let mut late = Pod::new("late")?;
    late.attachment = how(late.attachment);
    let refusal = refused(s.attach(&mut late))?;
    ensure!(refusal.text().contains("8081"), "{refusal}");
    s.detach(&late)?;
    s.there()?.without("last_reserved_ip").must_be_as(&before.without("last_reserved_ip"))?;
    for family in s.families() {
        s.outside_must_reach(Protocol::Tcp, (node_address(*family), 8081).into(), "pod-1")?;
    }
    Ok(())
}

/// A client that keeps its port is remembered by conntrack: when a pod is replaced, it must come to the new one.
fn a_flow_follows_its_port_to_the_next_pod(s: &mut Scene) -> Result<()> {
    let how = |attachment: Attachment| attachment.capability("portMappings", mapping(&[(8082, "udp")]));
    let mut flows = Vec::new();
    for family in s.families() {
        flows.push(Place::of(&s.outside).flow((node_address(*family), 8082).into())?);
    }
    for name in ["first", "second"] {
        let mut pod = Pod::new(name)?;
        pod.attachment = how(pod.attachment);
        s.attach(&mut pod)?;
        pod.answer()?;
        for flow in &flows {
            let outcome = flow.ask()?;
            ensure!(is_answered(&outcome, name), "{name} is there: {outcome}");
        }
        s.detach(&pod)?;
        for flow in &flows {
            let outcome = flow.ask_briefly()?;
            ensure!(!matches!(outcome, Outcome::Answered { .. }), "{name} has gone: {outcome}");
        }
    }
    Ok(())
}

fn a_pod_reaches_itself_by_its_port(s: &mut Scene) -> Result<()> {
    let mut pod = Pod::new("pod-1")?;
    pod.attachment = pod.attachment.capability("portMappings", mapping(&[(8081, "tcp")]));
    s.attach(&mut pod)?;
    pod.answer()?;
    for family in s.families() {
        let to = (node_address(*family), 8081).into();
        let outcome = pod.place().connect(Protocol::Tcp, to)?;
        ensure!(is_answered(&outcome, "pod-1"), "{to}: {outcome}");
    }
    Ok(())
}

fn rates_are_kept(s: &mut Scene) -> Result<()> {
    const RATE: u64 = 20_000_000;
    let before = s.ground()?;
    let mut pod = Pod::new("pod-1")?;
    let limits = json!({
        "ingressRate": RATE, "ingressBurst": 400_000, "egressRate": RATE, "egressBurst": 400_000,
    });
    pod.attachment = pod.attachment.capability("bandwidth", limits);
    s.attach(&mut pod)?;
    s.runtime.check(&s.list, &pod.attachment)?;
    for family in s.families() {
        let (inside, outside) = (pod.ip(*family)?, outside_address(*family));
        for (what, from, to, at) in [
            ("sending", &pod.namespace, &s.outside, outside),
            ("receiving", &s.outside, &pod.namespace, inside),
        ] {
            crate::rate::must_be_kept(from, to, at, RATE).with_context(|| format!("{what} by {family:?}"))?;
        }
    }
    s.detach(&pod)?;
    s.must_be_as(&before)
}
