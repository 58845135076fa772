//! Who answers where.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use testbed::cluster::{Service, Slice};
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Outcome, POD_PORT, Protocol, Subject};

use crate::{PORT, address, hss, serve};

testbed::scenarios![
    Subject:
    a_cluster_ip_reaches_every_endpoint,
    every_frontend_is_served,
    tcp_udp_and_sctp_on_one_port_number_are_three_services,
    a_client_stays_with_its_endpoint,
    a_service_without_endpoints_refuses,
    endpoints_come_and_go,
    external_local_keeps_to_this_node_and_shows_the_client,
    internal_local_keeps_to_this_node,
    a_pod_that_reaches_itself_is_masqueraded,
];

const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];

fn a_cluster_ip_reaches_every_endpoint(s: &mut Subject) -> Result<()> {
    serve(s, hss(s), &PODS)?;
    s.reaches_over(Protocol::Sctp, s.pod(3), address(s), &PODS, AsItself)?;
    s.reaches_over(Protocol::Sctp, s.node(), address(s), &PODS, Masqueraded)?;
    s.reaches_over(Protocol::Sctp, s.client(), address(s), &PODS, Masqueraded)?;
    Ok(())
}

/// `hss` with every frontend that there is.
fn everywhere(s: &Subject) -> Service {
    let family = s.family();
    hss(s).node_port(30868).external_ip(family.external_ip(5)).load_balancer_ip(family.load_balancer_ip(6))
}

/// Node port, external IP and load-balancer IP.
fn from_outside(s: &Subject) -> [SocketAddr; 3] {
    let family = s.family();
    let frontends =
        [(family.node(), 30868), (family.external_ip(5), PORT), (family.load_balancer_ip(6), PORT)];
    frontends.map(SocketAddr::from)
}

fn every_frontend_is_served(s: &mut Subject) -> Result<()> {
    serve(s, everywhere(s), &PODS)?;
    for to in from_outside(s) {
        s.reaches_over(Protocol::Sctp, s.client(), to, &PODS, Masqueraded)?;
        s.reaches_over(Protocol::Sctp, s.node(), to, &PODS, Masqueraded)?;
    }
    Ok(())
}

fn tcp_udp_and_sctp_on_one_port_number_are_three_services(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let three = [(Protocol::Tcp, "pod-1"), (Protocol::Udp, "pod-2"), (Protocol::Sctp, "remote-1")];
    for (number, (protocol, pod)) in (10..).zip(three) {
        let name = protocol.name().to_lowercase();
        let service = Service::new(&name, family.cluster_ip(number)).port("port", protocol.name(), PORT);
        let slice = Slice::new(&name, family, [s.endpoint(pod)]).port("port", protocol, POD_PORT);
        s.cluster.put(service.node_port(30868).external_ip(family.external_ip(5))).put_slice(slice);
    }
    s.sync()?;
    for (protocol, pod) in three {
        s.reaches_over(protocol, s.client(), (family.node(), 30868), &[pod], Masqueraded)?;
        s.reaches_over(protocol, s.client(), (family.external_ip(5), PORT), &[pod], Masqueraded)?;
    }
    // With one of them gone, the others must not answer for it.
    s.cluster.delete("sctp");
    s.sync()?;
    let outcome = s.client().place.connect_briefly(Protocol::Sctp, (family.external_ip(5), PORT).into())?;
    ensure!(
        !matches!(outcome, Outcome::Answered { .. }),
        "who answers for the service that is gone? {outcome}"
    );
    s.reaches_over(Protocol::Tcp, s.client(), (family.external_ip(5), PORT), &["pod-1"], Masqueraded)?;
    Ok(())
}

fn a_client_stays_with_its_endpoint(s: &mut Subject) -> Result<()> {
    serve(s, everywhere(s).affinity(10_800), &PODS)?;
    for who in [s.client(), s.foreign_client(), s.pod(3)] {
        let mut pods = Vec::new();
        for to in from_outside(s).into_iter().chain([address(s)]) {
            let outcomes = who.place.connect_times(Protocol::Sctp, to, 12)?;
            ensure!(outcomes.len() == 1, "{} does not stay: {outcomes:?}", who.ip);
            let outcome = outcomes.keys().next().context("nobody answered")?;
            pods.push(testbed::subject::answerer(outcome)?.to_owned());
        }
        pods.dedup();
        ensure!(pods.len() == 1, "{} is led elsewhere by another frontend: {pods:?}", who.ip);
    }
    Ok(())
}

fn a_service_without_endpoints_refuses(s: &mut Subject) -> Result<()> {
    serve(s, everywhere(s), &[])?;
    for who in [s.pod(1), s.client()] {
        for to in from_outside(s).into_iter().chain([address(s)]) {
            s.comes_to(Protocol::Sctp, who, to, &Outcome::Refused)?;
        }
    }
    s.comes_to(Protocol::Sctp, s.node(), address(s), &Outcome::Refused)
}

fn endpoints_come_and_go(s: &mut Subject) -> Result<()> {
    for pods in [&["pod-1", "remote-1"][..], &["remote-1"], &["pod-2", "remote-1"], &["pod-1"]] {
        serve(s, hss(s), pods)?;
        s.reaches_over(Protocol::Sctp, s.pod(3), address(s), pods, AsItself)?;
    }
    serve(s, hss(s), &[])?;
    s.comes_to(Protocol::Sctp, s.pod(3), address(s), &Outcome::Refused)?;
    serve(s, hss(s), &["pod-2"])?;
    s.reaches_over(Protocol::Sctp, s.pod(3), address(s), &["pod-2"], AsItself)?;
    Ok(())
}

fn external_local_keeps_to_this_node_and_shows_the_client(s: &mut Subject) -> Result<()> {
    serve(s, everywhere(s).external_local(), &PODS)?;
    for to in from_outside(s) {
        s.reaches_over(Protocol::Sctp, s.client(), to, &["pod-1", "pod-2"], AsItself)?;
    }
    serve(s, everywhere(s).external_local(), &["remote-1"])?;
    for to in from_outside(s) {
        s.comes_to(Protocol::Sctp, s.client(), to, &Outcome::Silence)?;
    }
    s.reaches_over(Protocol::Sctp, s.pod(3), address(s), &["remote-1"], AsItself)?;
    Ok(())
}

fn internal_local_keeps_to_this_node(s: &mut Subject) -> Result<()> {
    serve(s, hss(s).internal_local(), &PODS)?;
    s.reaches_over(Protocol::Sctp, s.pod(3), address(s), &["pod-1", "pod-2"], AsItself)?;
    serve(s, hss(s).internal_local(), &["remote-1"])?;
    s.comes_to(Protocol::Sctp, s.pod(3), address(s), &Outcome::Silence)
}

fn a_pod_that_reaches_itself_is_masqueraded(s: &mut Subject) -> Result<()> {
    serve(s, everywhere(s), &["pod-1"])?;
    for to in from_outside(s).into_iter().chain([address(s)]) {
        s.reaches_over(Protocol::Sctp, s.pod(1), to, &["pod-1"], Masqueraded)?;
    }
    Ok(())
}
