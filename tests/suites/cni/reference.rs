//! The harness, by plugins that everybody uses: what goes for them must go for it.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::cni::{Attachment, PORT, Pod, Refused, refused};
use testbed::{Outcome, Place, Protocol, scenarios};

use crate::scene::{Scene, node_address, pod_address};

scenarios! {
    Scene:
    results_are_remembered_until_they_are_not_needed,
    what_a_plugin_cannot_is_refused_with_its_words,
    plugins_are_chained_and_told_what_their_capabilities_name,
    a_list_is_undone_backwards,
}

fn results_are_remembered_until_they_are_not_needed(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    ensure!(s.runtime.result_of(&s.list, &pod.attachment)? == Some(pod.result.clone()), "not as it was");
    for family in s.families() {
        ensure!(pod.ip(*family)? == pod_address(*family, 2), "{}", pod.result);
    }
    s.detach(&pod)?;
    ensure!(s.runtime.result_of(&s.list, &pod.attachment)?.is_none(), "a result is still remembered");
    Ok(())
}

fn what_a_plugin_cannot_is_refused_with_its_words(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    let Refused { plugin, code, .. } = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!((plugin.as_str(), code) == ("bridge", 999), "{plugin} says {code}");
    let unknown = s.list.in_version("9.9.9");
    ensure!(refused(s.runtime.add(&unknown, &Pod::new("pod-2")?.attachment))?.code == 1, "another code");
    Ok(())
}

fn plugins_are_chained_and_told_what_their_capabilities_name(s: &mut Scene) -> Result<()> {
    let ports = json!({ "type": "portmap", "snat": true, "capabilities": { "portMappings": true } });
    s.list = s.list.clone().then(json!({ "type": "tuning", "mtu": 1400 })).then(ports);
    let mapped = |attachment: Attachment| {
        let mapping = json!([{ "hostPort": 8081, "containerPort": PORT, "protocol": "tcp" }]);
        attachment.capability("portMappings", mapping)
    };
    let before = s.ground_of(mapped)?;
    let mut pod = Pod::new("pod-1")?;
    pod.attachment = mapped(pod.attachment);
    s.attach(&mut pod)?;
    pod.answer()?;
    for family in s.families() {
        let to = (node_address(*family), 8081).into();
        let outcome = Place::of(&s.outside).connect(Protocol::Tcp, to)?;
        ensure!(matches!(&outcome, Outcome::Answered { by, .. } if by == "pod-1"), "{to}: {outcome}");
    }
    let link = pod.namespace.output("ip", &["link", "show", "eth0"])?;
    ensure!(link.contains("mtu 1400"), "tuning was not run: {link}");
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn a_list_is_undone_backwards(s: &mut Scene) -> Result<()> {
    // The first plugin is never asked when one behind it fails.
    let pod = s.pod("pod-1")?;
    let broken = s.list.clone().then(json!({ "type": "no-such-plugin" }));
    ensure!(s.runtime.del(&broken, &pod.attachment).is_err(), "a plugin that is not there was run");
    s.runtime.check(&s.list, &pod.attachment)?;
    s.detach(&pod)?;
    ensure!(s.runtime.check(&s.list, &pod.attachment).is_err(), "what is gone passes");
    Ok(())
}
