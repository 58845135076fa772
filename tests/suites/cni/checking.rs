//! CHECK and STATUS tell what is so.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::cni::{Call, Pod, refused};
use testbed::{Family, scenarios};

use crate::scene::{Path, Scene, subnet};

scenarios! { Scene:
    what_is_whole_passes,
    what_is_missing_is_found,
    what_later_plugins_add_is_no_fault,
    only_the_runtime_honours_disable_check,
    a_node_is_ready_once_its_network_is_told,
    a_node_without_addresses_is_not_ready,
    a_node_that_is_not_ready_lets_pods_go,
}

/// Commands of `ip` that break something.
struct Damage {
    what: &'static str,
    inside: bool,
    commands: fn(&Scene, &Pod) -> Result<String>,
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "an address",
        inside: true,
        commands: |s, pod| {
            let family = s.families()[0];
            let length = length_in_pod(s, family);
            Ok(format!("addr del {}/{length} dev eth0", pod.ip(family)?))
        },
    },
    Damage {
        what: "the default route",
        inside: true,
        commands: |s, _| {
            Ok(match s.families()[0] {
                Family::V4 => "-4 route del default".to_owned(),
                Family::V6 => "-6 route del default".to_owned(),
            })
        },
    },
    Damage { what: "the pod's interface", inside: true, commands: |_, _| Ok("link del eth0".to_owned()) },
    Damage {
        what: "the pod's interface is down",
        inside: true,
        commands: |_, _| Ok("link set eth0 down".to_owned()),
    },
    Damage {
        what: "the node's interface",
        inside: false,
        commands: |_, pod| Ok(format!("link del {}", host_link(pod)?)),
    },
    Damage {
        what: "the node's interface is down",
        inside: false,
        commands: |_, pod| Ok(format!("link set {} down", host_link(pod)?)),
    },
    Damage {
        what: "the way to the pod",
        inside: false,
        commands: |s, pod| match s.path {
            Path::Routed => {
                let family = s.families()[0];
                Ok(format!("route del {}", pod.ip(family)?))
            }
            _ => Ok(format!("link set {} nomaster", host_link(pod)?)),
        },
    },
];

/// The name of a pod's other end.
pub(crate) fn host_link(pod: &Pod) -> Result<String> {
    let interfaces = pod.result["interfaces"].as_array().context("no interfaces")?;
    let ours = interfaces.iter().filter(|one| one["sandbox"].as_str().is_none_or(str::is_empty));
    let name = ours.filter_map(|one| one["name"].as_str()).find(|name| *name != "cni0");
    name.map(str::to_owned).with_context(|| format!("no interface on the node: {}", pod.result))
}

fn length_in_pod(s: &Scene, family: Family) -> u8 {
    match (s.path, family) {
        (Path::Routed, Family::V4) => 32,
        (Path::Routed, Family::V6) => 128,
        (_, Family::V4) => 24,
        (_, Family::V6) => 64,
    }
}

fn what_is_whole_passes(s: &mut Scene) -> Result<()> {
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    let before = s.there()?;
    for pod in [&one, &two, &one] {
        s.runtime.check(&s.list, &pod.attachment)?;
    }
    s.must_be_as(&before)?;
    s.detach(&two)?;
    s.runtime.check(&s.list, &one.attachment)
}

fn what_is_missing_is_found(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    for (number, damage) in DAMAGES.iter().enumerate() {
        let pod = s.pod(&format!("pod-{number}"))?;
        s.runtime.check(&s.list, &pod.attachment)?;
        let commands = (damage.commands)(s, &pod)?;
        let place = if damage.inside { &pod.namespace } else { &s.node };
        let arguments: Vec<&str> = commands.split(' ').collect();
        place.output("ip", &arguments).with_context(|| damage.what)?;
        let refusal = refused(s.runtime.check(&s.list, &pod.attachment)).with_context(|| damage.what)?;
        ensure!(refusal.code >= 100, "{}: {refusal}", damage.what);
        s.detach(&pod)?;
        s.must_be_as(&before).with_context(|| damage.what)?;
    }
    // So is an address that was given to nobody.
    let pod = s.pod("unowned")?;
    let file = format!("/var/lib/cni/networks/pods/{}", pod.ip(s.families()[0])?);
    s.node.run(|| fs::remove_file(file))??;
    refused(s.runtime.check(&s.list, &pod.attachment)).context("an address that nobody has")?;
    s.detach(&pod)
}

fn what_later_plugins_add_is_no_fault(s: &mut Scene) -> Result<()> {
    let tuning = json!({ "type": "tuning", "mtu": 1400, "sysctl": { "net.ipv4.conf.eth0.arp_filter": "1" } });
    s.list = s.list.clone().then(tuning);
    let before = s.ground()?;
    let pod = s.pod("pod-1")?;
    s.runtime.check(&s.list, &pod.attachment)?;
    pod.namespace.ip("route add 192.0.2.0/24 dev eth0\naddr add 198.51.100.7/32 dev eth0")?;
    s.runtime.check(&s.list, &pod.attachment)?;
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn only_the_runtime_honours_disable_check(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    pod.namespace.ip("link set eth0 down")?;
    s.list.disable_check = true;
    s.runtime.check(&s.list, &pod.attachment)?;
    let mut input = s.list.plugins[0].clone();
    input["name"] = json!(s.list.name);
    input["cniVersion"] = json!(s.list.version);
    input["disableCheck"] = json!(true);
    input["prevResult"] = pod.result.clone();
    let call = Call::about("CHECK", &pod.attachment);
    let answer = s.runtime.call("pointsman-cni", &call, input.to_string().as_bytes())?;
    refused(answer.result()).map(drop)
}

/// Has the plugin learn its ranges from the daemon's file, which is not there yet.
fn ask_the_daemon(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    let plugin = s.list.plugins.first_mut().context("no plugin")?;
    plugin["ipam"] = json!({ "type": "pointsman-ipam" });
    Ok(())
}

fn a_node_is_ready_once_its_network_is_told(s: &mut Scene) -> Result<()> {
    ask_the_daemon(s)?;
    let refusal = refused(s.runtime.status(&s.list))?;
    ensure!(refusal.code == 50, "{refusal}");
    let before = s.there()?;
    let mut pod = Pod::new("pod-1")?;
    let refusal = refused(s.attach(&mut pod))?;
    ensure!(refusal.code == 11 || refusal.code >= 50, "{refusal}");
    s.must_be_as(&before)?;
    s.publish(1400)?;
    s.runtime.status(&s.list)?;
    let pod = s.pod("pod-2")?;
    let link = pod.namespace.output("ip", &["link", "show", "eth0"])?;
    ensure!(link.contains("mtu 1400"), "the daemon said so: {link}");
    s.runtime.check(&s.list, &pod.attachment)
}

fn a_node_without_addresses_is_not_ready(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    s.small_ranges()?;
    s.runtime.status(&s.list)?;
    let mut pods = Vec::new();
    for number in 0..s.small() {
        ensure!(s.runtime.status(&s.list).is_ok(), "not ready with {number} pods");
        pods.push(s.pod(&format!("pod-{number}"))?);
    }
    let refusal = refused(s.runtime.status(&s.list))?;
    // Of two ranges, the smaller one is the last.
    let family = s.families().last().copied().unwrap_or(Family::V4);
    let range = subnet(family).split('/').next().unwrap_or_default();
    ensure!(refusal.code == 50 && refusal.text().contains(range), "{refusal}");
    s.runtime.check(&s.list, &pods[0].attachment)?;
    s.detach(&pods[0])?;
    s.runtime.status(&s.list)
}

fn a_node_that_is_not_ready_lets_pods_go(s: &mut Scene) -> Result<()> {
    ask_the_daemon(s)?;
    s.publish(1400)?;
    let before = s.ground()?;
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    s.unpublish()?;
    let refusal = refused(s.runtime.status(&s.list))?;
    ensure!([50, 51].contains(&refusal.code), "{refusal}");
    s.runtime.check(&s.list, &one.attachment)?;
    one.must_reach(&two)?;
    s.detach(&one)?;
    s.runtime.gc(&s.list, &[])?;
    s.there()?.must_be_as(&before.without("network.json"))
}
