//! A pod is attached, and works.

use anyhow::{Result, ensure};
use testbed::cni::{PORT, Pod, refused};
use testbed::{Outcome, Place, Protocol, scenarios};

use crate::scene::{Scene, node_address, outside_address};

scenarios! {
    Scene:
    pods_reach_each_other_their_node_and_outside,
    a_pod_that_went_leaves_nothing,
    a_second_interface_has_addresses_of_its_own,
    an_attachment_that_is_there_is_refused_and_left_alone,
}

fn pods_reach_each_other_their_node_and_outside(s: &mut Scene) -> Result<()> {
    let (one, two) = (s.pod("pod-1")?, s.pod("pod-2")?);
    one.must_reach(&two)?;
    two.must_reach(&one)?;
    for family in s.families() {
        let (pod, node) = ((one.ip(*family)?, PORT).into(), node_address(*family));
        for (name, place) in [("node", Place::of(&s.node)), ("outside", Place::of(&s.outside))] {
            for protocol in Protocol::BOTH {
                let outcome = place.connect(protocol, pod)?;
                ensure!(
                    matches!(&outcome, Outcome::Answered { by, .. } if by == "pod-1"),
                    "{name} to {pod}: {outcome}"
                );
            }
        }
        // Nobody listens there, so who is reached refuses.
        for address in [node, outside_address(*family)] {
            let outcome = one.place().connect(Protocol::Tcp, (address, 1).into())?;
            ensure!(outcome == Outcome::Refused, "pod-1 to {address}: {outcome}");
        }
    }
    Ok(())
}

fn a_pod_that_went_leaves_nothing(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let inside = Pod::new("pod-1")?;
    let empty = testbed::cni::There::on(&inside.namespace)?;
    let mut pod = inside;
    s.attach(&mut pod)?;
    ensure!(s.there()? != before, "a pod that leaves no trace is not there");
    s.detach(&pod)?;
    s.must_be_as(&before)?;
    testbed::cni::There::on(&pod.namespace)?.must_be_as(&empty)
}

fn a_second_interface_has_addresses_of_its_own(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let pod = s.pod("pod-1")?;
    let second = pod.attachment.clone().interface("net1");
    // What is told of a network's default route would be in the way of the first interface's.
    let result = s.runtime.add(&s.list, &second);
    if !s.is_ours() {
        return Ok(());
    }
    let mut other = Pod::new("pod-2")?;
    other.result = result?;
    for ip in other.addresses()? {
        ensure!(!pod.addresses()?.contains(&ip), "{ip} was given twice");
    }
    s.runtime.check(&s.list, &second)?;
    s.runtime.check(&s.list, &pod.attachment)?;
    s.runtime.del(&s.list, &second)?;
    s.runtime.check(&s.list, &pod.attachment)?;
    s.detach(&pod)?;
    s.must_be_as(&before)
}

fn an_attachment_that_is_there_is_refused_and_left_alone(s: &mut Scene) -> Result<()> {
    let pod = s.pod("pod-1")?;
    let before = s.there()?;
    let refusal = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!(refusal.code >= 4, "{refusal}");
    if s.is_ours() {
        s.must_be_as(&before)?;
    }
    let other = s.pod("pod-2")?;
    other.must_reach(&pod)
}
