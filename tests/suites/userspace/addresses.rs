//! Whose address endpoints see.

use anyhow::{Result, ensure};
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Outcome, POD_PORT, Protocol, Subject};

use crate::{dns, put_dns};

testbed::scenarios![
    Subject:
    outsiders_are_seen_as_themselves_under_policy_local,
    pods_are_seen_as_themselves_over_udp,
    outsiders_and_the_node_are_seen_as_the_node_over_udp,
    a_pod_that_reaches_itself_over_udp_sees_the_node,
    pods_on_one_bridge_see_the_node,
    a_pod_on_a_bridge_is_seen_as_itself_elsewhere,
    an_endpoint_on_the_node_itself_sees_the_node,
    answers_come_back_over_a_strict_reverse_path,
    where_marks_tell_sources_endpoints_see_the_node,
    large_answers_come_back,
    a_port_that_led_to_a_service_leads_to_its_pod_too,
];

/// Conntrack must not take the pod's own connection for the one that bears its address.
fn a_port_that_led_to_a_service_leads_to_its_pod_too(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let place = s.pod(3).place.from_socket_address((s.bed.pod(3).ip(s.family()), 40_505).into());
    for to in [s.web_address(), (s.bed.pod(1).ip(s.family()), POD_PORT).into()] {
        let outcome = place.connect(Protocol::Tcp, to)?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "{to} leads to {outcome}");
    }
    Ok(())
}

fn outsiders_are_seen_as_themselves_under_policy_local(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080).external_local();
    let dns = dns(s).node_port(30053).external_local();
    put_dns(s, dns, &["pod-1", "remote-1"]);
    s.serve(web, &["pod-1", "remote-1"])?;
    let node = s.family().node();
    for who in [s.client(), s.foreign_client()] {
        s.reaches(who, (node, 30080), &["pod-1"], AsItself)?;
        s.reaches_over(Protocol::Udp, who, (node, 30053), &["pod-1"], AsItself)?;
    }
    Ok(())
}

fn pods_are_seen_as_themselves_over_udp(s: &mut Subject) -> Result<()> {
    let dns = dns(s);
    put_dns(s, dns, &["pod-1", "remote-1"]);
    s.sync()?;
    let to = (s.family().cluster_ip(53), 53);
    s.reaches_over(Protocol::Udp, s.pod(3), to, &["pod-1", "remote-1"], AsItself)?;
    Ok(())
}

fn outsiders_and_the_node_are_seen_as_the_node_over_udp(s: &mut Subject) -> Result<()> {
    let dns = dns(s).node_port(30053);
    put_dns(s, dns, &["pod-1", "remote-1"]);
    s.sync()?;
    let to = (s.family().cluster_ip(53), 53);
    s.reaches_over(Protocol::Udp, s.node(), to, &["pod-1", "remote-1"], Masqueraded)?;
    s.reaches_over(Protocol::Udp, s.client(), to, &["pod-1", "remote-1"], Masqueraded)?;
    let to = (s.family().node(), 30053);
    s.reaches_over(Protocol::Udp, s.client(), to, &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn a_pod_that_reaches_itself_over_udp_sees_the_node(s: &mut Subject) -> Result<()> {
    let dns = dns(s);
    put_dns(s, dns, &["pod-1"]);
    s.sync()?;
    let to = (s.family().cluster_ip(53), 53);
    s.reaches_over(Protocol::Udp, s.pod(1), to, &["pod-1"], Masqueraded)?;
    Ok(())
}

/// They may answer each other directly, over the bridge.
fn pods_on_one_bridge_see_the_node(s: &mut Subject) -> Result<()> {
    serve_on_bridge(s, &["pod-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], Masqueraded)?;
    // As they do when the range of all pods is on the bridge.
    for number in [1, 3] {
        let others = s.bed.pod(4 - number).ip(s.family());
        s.bed.pod_namespace(number).ip(&format!("route add {others} dev eth0\n"))?;
    }
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], Masqueraded)?;
    Ok(())
}

fn a_pod_on_a_bridge_is_seen_as_itself_elsewhere(s: &mut Subject) -> Result<()> {
    serve_on_bridge(s, &["remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["remote-1"], AsItself)?;
    s.reaches(s.client(), s.web_address(), &["remote-1"], Masqueraded)?;
    Ok(())
}

fn serve_on_bridge(s: &mut Subject, pods: &[&str]) -> Result<()> {
    s.use_bridge()?;
    s.only_args(&["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"]);
    s.serve_web(pods)
}

/// It answers without leaving the node, where no packet could be marked as it comes in.
fn an_endpoint_on_the_node_itself_sees_the_node(s: &mut Subject) -> Result<()> {
    let at = (s.family().node(), POD_PORT).into();
    let _host = testbed::Responder::new(&s.bed.node, at, "host")?;
    let web = s.web().node_port(30080).external_local();
    let endpoint =
        testbed::cluster::Endpoint { address: s.family().node().to_string(), ..s.endpoint("pod-1") };
    let slice = s.slice_of("web", [endpoint]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["host"], Masqueraded)?;
    s.reaches(s.client(), (s.family().node(), 30080), &["host"], Masqueraded)?;
    Ok(())
}

fn answers_come_back_over_a_strict_reverse_path(s: &mut Subject) -> Result<()> {
    for device in ["all", "default", "eth0", "eth1", "lo", "pod-1", "pod-3"] {
        s.bed.node.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "1")?;
    }
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    Ok(())
}

/// Over IPv4 the kernel would take the endpoints' answers for packets from itself, and drop them.
fn where_marks_tell_sources_endpoints_see_the_node(s: &mut Subject) -> Result<()> {
    s.bed.node.sysctl("net/ipv4/conf/all/src_valid_mark", "1")?;
    s.serve_web(&["pod-1", "remote-1"])?;
    let seen = if s.family() == testbed::Family::V4 { Masqueraded } else { AsItself };
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], seen)?;
    let said = s.proxy()?.await_line_with("src_valid_mark")?;
    ensure!(said.contains("IPv4"), "{said}");
    Ok(())
}

/// Packets of an answer that is under way for long are led back like its first.
fn large_answers_come_back(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    for _ in 0..1000 {
        conversation.echo()?;
    }
    conversation.close()
}
