//! Who gets which address.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::cni::{Attachment, Call, Pod, refused};
use testbed::{Family, scenarios};

use crate::scene::{Scene, configuration_of, pod_address, ranges, subnet};

scenarios! { Scene:
    addresses_go_round,
    an_exhausted_range_is_named_with_its_owners,
    an_address_that_is_asked_for_is_given,
    an_address_that_cannot_be_given_is_refused,
    ranges_that_make_no_sense_are_refused,
    a_range_that_is_not_the_nodes_is_refused,
    many_at_once_get_addresses_of_their_own,
    addresses_of_before_a_reboot_are_free,
    files_are_as_the_reference_has_them,
    addresses_that_the_reference_gave_are_respected,
    an_ipam_plugin_that_is_not_there_is_named,
}

fn addresses_go_round(s: &mut Scene) -> Result<()> {
    let mut seen = BTreeSet::new();
    for number in 0..3 {
        let mut pod = Pod::new(&format!("pod-{number}"))?;
        s.attach(&mut pod)?;
        for ip in pod.addresses()? {
            ensure!(seen.insert(ip), "{ip} was given again at once");
        }
        s.detach(&pod)?;
    }
    Ok(())
}

fn an_exhausted_range_is_named_with_its_owners(s: &mut Scene) -> Result<()> {
    s.small_ranges()?;
    let mut pods = Vec::new();
    for number in 0..s.small() {
        pods.push(s.pod(&format!("owner-{number}"))?);
    }
    let before = s.there()?;
    let mut late = Pod::new("late")?;
    let refusal = refused(s.attach(&mut late))?;
    let text = refusal.text();
    // Of two ranges, the smaller one is the last.
    let family = s.families().last().copied().unwrap_or(Family::V4);
    let range = subnet(family).split('/').next().unwrap_or_default();
    ensure!(text.contains(range) && text.contains("owner-0") && text.contains("owner-1"), "{refusal}");
    s.must_be_as(&before)?;
    s.detach(&late)?;
    s.must_be_as(&before)?;
    s.detach(&pods[1])?;
    s.attach(&mut late)?;
    ensure!(late.addresses()?.contains(&pods[1].ip(family)?), "{}", late.result);
    pods[0].must_reach(&pods[2])
}

/// The three ways to ask for addresses.
fn asked(s: &Scene, way: &str, attachment: Attachment, addresses: &[IpAddr]) -> (Asked, Attachment) {
    let list = s.list.clone();
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    match way {
        "CNI_ARGS" => (Asked(list), attachment.arg("IgnoreUnknown", "1").arg("IP", &texts.join(","))),
        "args" => {
            let mut list = list;
            list.plugins[0]["args"] = json!({ "cni": { "ips": texts } });
            (Asked(list), attachment)
        }
        _ => (Asked(list), attachment.capability("ips", json!(texts))),
    }
}

/// The network as it is when an address is asked for.
struct Asked(testbed::cni::List);

fn an_address_that_is_asked_for_is_given(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let wanted: Vec<IpAddr> = s.families().iter().map(|family| pod_address(*family, 0x55)).collect();
    for way in ["CNI_ARGS", "args", "ips"] {
        let mut pod = Pod::new(&format!("pod-{}", way.to_lowercase().replace('_', "-")))?;
        let (Asked(list), attachment) = asked(s, way, pod.attachment.clone(), &wanted);
        pod.result = s.runtime.add(&list, &attachment).context(way)?;
        ensure!(pod.addresses()? == wanted, "{way}: {}", pod.result);
        s.runtime.del(&list, &attachment)?;
    }
    s.there()?.without("last_reserved_ip").must_be_as(&before.without("last_reserved_ip"))
}

fn an_address_that_cannot_be_given_is_refused(s: &mut Scene) -> Result<()> {
    let family = s.families()[0];
    let taken = s.pod("pod-1")?;
    let before = s.there()?;
    let mut unfit = vec![
        ("taken", taken.ip(family)?),
        ("the gateway", pod_address(family, 1)),
        ("the network itself", pod_address(family, 0)),
        ("out of range", if family == Family::V4 { [192, 0, 2, 1].into() } else { "2001:db8::1".parse()? }),
    ];
    if family == Family::V4 {
        unfit.push(("broadcast", pod_address(family, 255)));
    }
    for (what, address) in unfit {
        for way in ["CNI_ARGS", "args", "ips"] {
            let attachment = Attachment::new("refused", "/run/netns/pod-1").interface("net1");
            let (Asked(list), attachment) = asked(s, way, attachment, &[address]);
            let refusal = refused(s.runtime.add(&list, &attachment));
            let refusal = refusal.with_context(|| format!("{way}: {address}, {what}"))?;
            ensure!(refusal.text().contains(&address.to_string()), "{way}: {what}: {refusal}");
            s.must_be_as(&before)?;
        }
    }
    s.runtime.check(&s.list, &taken.attachment)
}

fn ranges_that_make_no_sense_are_refused(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let all = [
        ("overlapping", json!([[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "10.88.0.0/25" }]])),
        ("too small", json!([[{ "subnet": "10.88.0.0/31" }]])),
        ("too small", json!([[{ "subnet": "fd00:88::/127" }]])),
        ("bits of a host", json!([[{ "subnet": "10.88.0.7/24" }]])),
        ("a start outside", json!([[{ "subnet": "10.88.0.0/24", "rangeStart": "10.89.0.1" }]])),
        ("an end outside", json!([[{ "subnet": "10.88.0.0/24", "rangeEnd": "10.89.0.1" }]])),
        (
            "an end before the start",
            json!([[{ "subnet": "10.88.0.0/24", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.3" }]]),
        ),
        ("two families", json!([[{ "subnet": "10.88.0.0/24" }, { "subnet": "fd00:88::/64" }]])),
        ("a gateway outside", json!([[{ "subnet": "10.88.0.0/24", "gateway": "fd00::1" }]])),
    ];
    for (what, ranges) in all {
        s.set_ipam("ranges", ranges)?;
        let pod = Pod::new("refused")?;
        let refusal = refused(s.runtime.add(&s.list, &pod.attachment)).context(what)?;
        ensure!(refusal.code == 7, "{what}: {refusal}");
        s.must_be_as(&before).context(what)?;
        std::process::Command::new("ip").args(["netns", "delete", "refused"]).status()?;
    }
    Ok(())
}

fn a_range_that_is_not_the_nodes_is_refused(s: &mut Scene) -> Result<()> {
    s.publish(1500)?;
    let before = s.ground()?;
    s.set_ipam("ranges", json!([[{ "subnet": "10.77.0.0/24" }]]))?;
    let pod = Pod::new("pod-1")?;
    let refusal = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!(refusal.text().contains("10.77.0.0/24"), "{refusal}");
    s.must_be_as(&before)
}

fn many_at_once_get_addresses_of_their_own(s: &mut Scene) -> Result<()> {
    const MANY: usize = 50;
    let before = s.ground()?;
    let pods: Vec<Pod> = (0..MANY).map(|number| Pod::new(&format!("pod-{number}"))).collect::<Result<_>>()?;
    let (runtime, list) = (&s.runtime, &s.list);
    let attach = |pod: &Pod| runtime.add(list, &pod.attachment);
    let results = thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || attach(pod))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
            .collect::<Vec<_>>()
    });
    let mut given = BTreeSet::new();
    let mut pods = pods;
    for (pod, result) in pods.iter_mut().zip(results) {
        pod.result = result?;
        for ip in pod.addresses()? {
            ensure!(given.insert(ip), "{ip} was given twice");
        }
    }
    ensure!(given.len() == MANY * s.families().len(), "{} addresses", given.len());
    // All go while as many are asked to stay.
    let detach =
        |pod: &Pod| runtime.del(list, &pod.attachment).and_then(|()| runtime.del(list, &pod.attachment));
    thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || detach(pod))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
    })?;
    s.there()?.without("last_reserved_ip").must_be_as(&before.without("last_reserved_ip"))
}

fn addresses_of_before_a_reboot_are_free(s: &mut Scene) -> Result<()> {
    const BOOT: &str = "/proc/sys/kernel/random/boot_id";
    s.small_ranges()?;
    for number in 0..s.small() {
        let mut pod = Pod::new(&format!("before-{number}"))?;
        s.attach(&mut pod)?;
    }
    let mut late = Pod::new("late")?;
    refused(s.attach(&mut late))?;
    // Nothing but files is left after a reboot.
    for number in 0..s.small() {
        std::process::Command::new("ip").args(["netns", "delete", &format!("before-{number}")]).status()?;
    }
    fs::write("/run/boot-id", "11111111-2222-3333-4444-555555555555\n")?;
    let bind = nix::mount::MsFlags::MS_BIND;
    s.node.run(|| nix::mount::mount(Some("/run/boot-id"), BOOT, None::<&str>, bind, None::<&str>))??;
    s.attach(&mut late).context("addresses of before a reboot are still taken")?;
    s.runtime.check(&s.list, &late.attachment)?;
    s.detach(&late)
}

fn files_are_as_the_reference_has_them(s: &mut Scene) -> Result<()> {
    let mut pod = Pod::new("pod-1")?;
    s.attach(&mut pod)?;
    for ip in pod.addresses()? {
        let file = format!("/var/lib/cni/networks/pods/{ip}");
        let text =
            s.node.run(|| fs::read_to_string(&file))?.with_context(|| format!("there is no {file}"))?;
        ensure!(text == "pod-1\r\neth0", "{file} says {text:?}");
    }
    // The reference takes them for its own: it gives none of them away, and can free them.
    let mut other = Pod::new("pod-2")?;
    let list = theirs(s)?;
    other.result = s.runtime.add(&list, &other.attachment)?;
    for ip in other.addresses()? {
        ensure!(!pod.addresses()?.contains(&ip), "{ip} was given twice");
    }
    let mut freed = pod.attachment.clone();
    freed.netns = "".into();
    s.runtime.del(&list, &freed)?;
    ensure!(
        s.there()?.with("/networks/pods/").iter().all(|line| !line.contains(&pod_file(&pod))),
        "still taken"
    );
    Ok(())
}

fn pod_file(pod: &Pod) -> String {
    pod.addresses().ok().and_then(|all| all.first().map(|ip| format!("/pods/{ip}"))).unwrap_or_default()
}

/// The reference's IPAM plugin alone, on the same folder.
fn theirs(s: &Scene) -> Result<testbed::cni::List> {
    let ipam = json!({ "type": "host-local", "ranges": ranges(s.stack) });
    let mut list = s.list.clone();
    list.plugins = vec![json!({ "type": "host-local", "ipam": ipam })];
    Ok(list)
}

fn addresses_that_the_reference_gave_are_respected(s: &mut Scene) -> Result<()> {
    let list = theirs(s)?;
    let mut given = Vec::new();
    let mut pods = Vec::new();
    for number in 0..3 {
        let mut pod = Pod::new(&format!("theirs-{number}"))?;
        pod.result = s.runtime.add(&list, &pod.attachment)?;
        given.extend(pod.addresses()?);
        pods.push(pod);
    }
    let ours = s.pod("ours")?;
    ensure!(!ours.addresses()?.iter().any(|ip| given.contains(ip)), "{} is taken", ours.result);
    let (Asked(list), attachment) = asked(s, "ips", Pod::new("refused")?.attachment, &given[..1]);
    refused(s.runtime.add(&list, &attachment)).map(drop)
}

fn an_ipam_plugin_that_is_not_there_is_named(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    s.set("ipam", json!({ "type": "no-such-ipam" }))?;
    let pod = Pod::new("pod-1")?;
    let call = Call::about("ADD", &pod.attachment);
    let refusal = refused(s.runtime.call("pointsman-cni", &call, &configuration_of(s))?.result())?;
    ensure!(refusal.text().contains("no-such-ipam") && refusal.text().contains("CNI_PATH"), "{refusal}");
    s.must_be_as(&before)?;
    Ok(())
}
