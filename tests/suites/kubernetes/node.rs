//! What rules depend on of the Node: waited for at the start, and followed.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use testbed::cluster::Endpoint;
use testbed::{Family, Outcome, Place, Protocol};

use crate::subject::{PATIENCE, Subject};

/// A range that no pod is in.
fn elsewhere(family: Family) -> &'static str {
    match family {
        Family::V4 => "172.20.0.0/16",
        Family::V6 => "fd00:172:20::/112",
    }
}

/// A pod on the other node comes to see pod 3, by way of Service 10, as somebody at this address.
fn await_seen_as(subject: &Subject, address: IpAddr) -> Result<()> {
    subject.connect_until(
        10,
        |outcome| matches!(outcome, Outcome::Answered { seen_as, .. } if *seen_as == address),
    )
}

pub(crate) fn the_node_is_waited_for(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.proxy()?.kill()?;
    subject.put("late", 11, &[1]);
    subject.cluster.delete_other("node");
    subject.publish()?;
    subject.args.extend(["--detect-local-mode", "NodeCIDR"].map(str::to_owned));
    subject.launch()?;
    subject.proxy()?.await_line_with("waiting for Node \"node\": there is none")?;
    subject.check_left_in_force(10, 1)?;
    subject.put_node(subject.family.node(), &[]);
    subject.publish()?;
    subject.proxy()?.await_line_with("waiting for Node \"node\": it has no podCIDRs")?;
    let outcome = subject.connect(11)?;
    ensure!(!matches!(outcome, Outcome::Answered { .. }), "nothing is programmed yet: {outcome}");
    subject.check_left_in_force(10, 1)?;
    subject.put_node(subject.family.node(), &[subject.family.cluster_cidr()]);
    subject.publish()?;
    subject.await_leads_to(11, 1)?;
    subject.check_leads_to(10, 1)
}

pub(crate) fn changes_of_the_node_are_followed(subject: &mut Subject) -> Result<()> {
    let (first, second) = (subject.family.node(), subject.family.second_node_address());
    subject
        .args
        .extend(["--detect-local-mode", "NodeCIDR", "--nodeport-addresses", "primary"].map(str::to_owned));
    subject.put("web", 10, &[]);
    let remote = Endpoint::of(subject.bed.remote_pod(1), subject.family);
    subject.cluster.slice("web").endpoints.push(remote);
    subject.cluster.service("web").ports[0].node_port = 30080;
    let (pods, elsewhere) = (subject.family.cluster_cidr(), elsewhere(subject.family));
    subject.put_node(first, &[pods]);
    subject.publish()?;
    subject.start()?;
    answers_alone(subject, first, second)?;
    let pod = subject.bed.pod(3).ip(subject.family);
    await_seen_as(subject, pod)?;
    subject.put_node(second, &[elsewhere]);
    subject.publish()?;
    answers_alone(subject, second, first)?;
    await_seen_as(subject, first)?;
    subject.cluster.delete_other("node");
    subject.publish()?;
    await_answers(subject, first, true)?;
    ensure!(matches!(subject.connect(10)?, Outcome::Answered { .. }), "pods are served without a Node");
    subject.put_node(first, &[pods]);
    subject.publish()?;
    answers_alone(subject, first, second)?;
    await_seen_as(subject, pod)
}

/// The node port comes to answer outsiders on one of the node's addresses and not on the other.
fn answers_alone(subject: &Subject, address: IpAddr, other: IpAddr) -> Result<()> {
    await_answers(subject, address, true)?;
    await_answers(subject, other, false)
}

fn await_answers(subject: &Subject, address: IpAddr, wanted: bool) -> Result<()> {
    let outside = Place::of(&subject.bed.client).from_address(subject.family.client());
    let is_wanted = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. }) == wanted;
    outside.connect_until(Protocol::Tcp, (address, 30080).into(), PATIENCE, is_wanted).map(drop)
}
