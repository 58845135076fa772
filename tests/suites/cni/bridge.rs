//! What is particular to pods on a bridge.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cni::{Pod, refused};
use testbed::{Family, scenarios};

use crate::checking::host_link;
use crate::scene::{Scene, pod_address};

scenarios! { Scene:
    the_bridge_has_the_gateways_address_and_keeps_its_own,
    ports_are_as_they_are_asked_for,
    a_bridge_with_another_address_is_refused,
    a_device_that_is_no_bridge_is_refused,
    a_change_of_mtu_reaches_new_pods,
}

fn the_bridge_has_the_gateways_address_and_keeps_its_own(s: &mut Scene) -> Result<()> {
    let one = s.pod("pod-1")?;
    let mac = |s: &Scene| -> Result<Value> {
        let told: Value = serde_json::from_str(&s.node.output("ip", &["-json", "link", "show", "cni0"])?)?;
        Ok(told[0]["address"].clone())
    };
    let before = mac(s)?;
    let there = s.there()?;
    for family in s.families() {
        let gateway = pod_address(*family, 1);
        ensure!(!there.with(&format!("address: {gateway}/")).is_empty(), "the bridge has no {gateway}");
    }
    let two = s.pod("pod-2")?;
    s.detach(&one)?;
    ensure!(mac(s)? == before, "the bridge has another hardware address now");
    s.detach(&two)?;
    ensure!(mac(s)? == before, "the bridge has another hardware address now");
    Ok(())
}

fn ports_are_as_they_are_asked_for(s: &mut Scene) -> Result<()> {
    for (hairpin, promiscuous) in [(true, false), (false, true), (false, false)] {
        s.set("hairpinMode", json!(hairpin))?;
        s.set("promiscMode", json!(promiscuous))?;
        s.set("bridge", json!(format!("br{}{}", u8::from(hairpin), u8::from(promiscuous))))?;
        s.list.name = format!("pods-{hairpin}-{promiscuous}");
        let pod = Pod::new(&format!("pod-{}-{}", u8::from(hairpin), u8::from(promiscuous)))?;
        let result = s.runtime.add(&s.list, &pod.attachment)?;
        let bridge = format!("br{}{}", u8::from(hairpin), u8::from(promiscuous));
        let ports = s.node.output("ip", &["-details", "link", "show", "master", &bridge])?;
        let expected = if hairpin { "hairpin on" } else { "hairpin off" };
        ensure!(ports.contains(expected), "{ports}");
        let shown = s.node.output("ip", &["link", "show", &bridge])?;
        ensure!(shown.contains("PROMISC") == promiscuous, "{shown}");
        ensure!(
            result["interfaces"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["name"] == json!(bridge))),
            "{result}"
        );
        s.runtime.check(&s.list, &pod.attachment)?;
        s.runtime.del(&s.list, &pod.attachment)?;
        s.node.ip(&format!("link del {bridge}"))?;
    }
    Ok(())
}

fn a_bridge_with_another_address_is_refused(s: &mut Scene) -> Result<()> {
    let family = s.families()[0];
    let wrong = match family {
        Family::V4 => "10.88.0.77/24",
        Family::V6 => "fd00:88::77/64",
    };
    s.node.ip(&format!("link add cni0 type bridge\nlink set cni0 up\naddr add {wrong} dev cni0 nodad"))?;
    let before = s.there()?;
    let pod = Pod::new("pod-1")?;
    let refusal = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!(refusal.text().contains("cni0"), "{refusal}");
    let files = |line: &str| ["last_reserved_ip", "/lock"].iter().any(|part| line.contains(part));
    let came: Vec<_> = s.there()?.with("file:").into_iter().filter(|line| !files(line)).collect();
    ensure!(came == before.with("file:"), "{came:?}");
    ensure!(!s.there()?.with(wrong).is_empty(), "somebody's address is gone");
    Ok(())
}

fn a_device_that_is_no_bridge_is_refused(s: &mut Scene) -> Result<()> {
    s.node.ip("link add cni0 type veth peer name other")?;
    let pod = Pod::new("pod-1")?;
    let refusal = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!(refusal.text().contains("cni0"), "{refusal}");
    ensure!(!s.there()?.with("link: other").is_empty(), "somebody's device is gone");
    Ok(())
}

fn a_change_of_mtu_reaches_new_pods(s: &mut Scene) -> Result<()> {
    let one = s.pod("pod-1")?;
    s.set("mtu", json!(1400))?;
    let two = s.pod("pod-2")?;
    let inside = two.namespace.output("ip", &["link", "show", "eth0"])?;
    let port = s.node.output("ip", &["link", "show", &host_link(&two)?]).context("no port")?;
    ensure!(inside.contains("mtu 1400") && port.contains("mtu 1400"), "{inside}{port}");
    one.must_reach(&two)
}
