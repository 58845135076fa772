//! A pod goes, in whatever way: nothing is left of it.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::cni::{Call, Pod};
use testbed::scenarios;

use crate::scene::{Path, Scene};

scenarios! { Scene:
    detaching_twice_is_no_error,
    a_namespace_that_vanished_is_no_hindrance,
    detaching_needs_no_namespace,
    detaching_needs_no_memory,
    detaching_what_never_was_is_no_error,
    one_of_two_interfaces_goes,
    garbage_goes_and_what_is_valid_stays,
    garbage_goes_when_everything_is_forgotten,
    garbage_of_other_networks_stays,
    older_versions_leave_as_well,
}

fn detaching_twice_is_no_error(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let pod = s.pod("pod-1")?;
    s.detach(&pod)?;
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn a_namespace_that_vanished_is_no_hindrance(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let mut pod = Pod::new("pod-1")?;
    s.attach(&mut pod)?;
    vanish(pod.name())?;
    s.detach(&pod)?;
    // The last of it goes with the descriptor that we have of it ourselves.
    drop(pod);
    s.await_as(&before)
}

fn detaching_needs_no_namespace(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let mut pod = Pod::new("pod-1")?;
    s.attach(&mut pod)?;
    pod.attachment.netns = "".into();
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn detaching_needs_no_memory(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let pod = s.pod("pod-1")?;
    s.runtime.forget(&s.list, &pod.attachment)?;
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn detaching_what_never_was_is_no_error(s: &mut Scene) -> Result<()> {
    let before = s.there()?;
    let pod = Pod::new("pod-1")?;
    s.detach(&pod)?;
    s.must_be_as(&before)?;
    let mut gone = pod.attachment.clone();
    gone.netns = "/run/netns/not-there".into();
    s.runtime.del(&s.list, &gone)?;
    s.must_be_as(&before)
}

fn one_of_two_interfaces_goes(s: &mut Scene) -> Result<()> {
    let (pod, other) = (s.pod("pod-1")?, s.pod("pod-2")?);
    let before = s.there()?;
    let second = pod.attachment.clone().interface("net1");
    s.runtime.add(&s.list, &second)?;
    s.runtime.del(&s.list, &second)?;
    s.must_be_as(&before)?;
    s.runtime.check(&s.list, &pod.attachment)?;
    other.must_reach(&pod)
}

fn garbage_goes_and_what_is_valid_stays(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    s.ground()?;
    let (stays, other) = (s.pod("pod-1")?, s.pod("pod-2")?);
    let before = s.there()?;
    let mut left = Vec::new();
    for name in ["pod-3", "pod-4"] {
        left.push(s.pod(name)?);
    }
    // One is still there, the other has vanished.
    vanish("pod-4")?;
    left.pop();
    s.runtime.gc(&s.list, &[&stays.attachment, &other.attachment])?;
    s.await_as(&before)?;
    stays.must_reach(&other)?;
    s.runtime.check(&s.list, &stays.attachment)?;
    // Nothing is left to be collected.
    s.runtime.gc(&s.list, &[&stays.attachment, &other.attachment])?;
    s.await_as(&before)
}

fn garbage_goes_when_everything_is_forgotten(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    let before = s.ground()?;
    let pods = (1..=3).map(|number| s.pod(&format!("pod-{number}"))).collect::<Result<Vec<_>>>()?;
    for pod in &pods {
        s.runtime.forget(&s.list, &pod.attachment)?;
    }
    s.runtime.gc(&s.list, &[])?;
    s.must_be_as(&before)
}

fn garbage_of_other_networks_stays(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    let before = s.there()?;
    let mut other = s.list.clone();
    other.name = "others".to_owned();
    let ranges = json!([[{ "subnet": "10.99.0.0/24" }]]);
    other.plugins = vec![crate::scene::plugin(s.path, &ranges)];
    if s.path == Path::Bridge {
        other.plugins[0]["bridge"] = json!("cni1");
    }
    s.runtime.gc(&other, &[])?;
    // That network has a lock now, but nothing else.
    s.there()?.without("/others/").must_be_as(&before)?;
    one.must_reach(&two)
}

fn older_versions_leave_as_well(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    for version in ["0.3.1", "0.4.0", "1.1.0"] {
        s.list = s.list.in_version(version);
        let mut pod = Pod::new(&format!("pod-{}", version.replace('.', "-")))?;
        s.attach(&mut pod)?;
        s.detach(&pod)?;
        s.must_be_as(&before)?;
    }
    // Whoever knows no GC refuses it, and removes nothing.
    let pod = s.pod("pod-1")?;
    let before = s.there()?;
    let mut input = s.list.plugins[0].clone();
    input["name"] = json!("pods");
    input["cniVersion"] = json!("1.0.0");
    input["cni.dev/valid-attachments"] = json!([]);
    let answer = s.runtime.call("pointsman-cni", &Call::new("GC"), input.to_string().as_bytes())?;
    ensure!(!answer.status.success(), "GC in version 1.0.0: {answer:?}");
    s.must_be_as(&before)?;
    s.detach(&pod)
}

/// Takes a pod's namespace away, as when its last process ends.
fn vanish(name: &str) -> Result<()> {
    let status = Command::new("ip").args(["netns", "delete", name]).status()?;
    ensure!(status.success(), "cannot delete {name}");
    Ok(())
}
