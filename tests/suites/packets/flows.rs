//! Connections that are under way when services change.

use anyhow::{Result, ensure};
use testbed::cluster::{Service, Slice};
use testbed::subject::answerer;
use testbed::{Outcome, POD_PORT, Protocol, Subject};

testbed::scenarios![
    Subject:
    a_tcp_connection_outlives_its_endpoint_s_removal,
    a_udp_flow_moves_when_its_endpoint_goes,
    a_udp_flow_stays_when_another_endpoint_goes,
    a_udp_flow_through_a_node_port_moves_when_its_endpoint_goes,
    a_udp_flow_begun_before_the_first_endpoint_gets_through,
    a_udp_flow_ends_with_its_service,
    a_udp_flow_stays_with_an_endpoint_that_still_serves,
    a_udp_flow_moves_when_many_services_change_at_once,
    udp_flows_of_others_are_left_alone,
    udp_flows_survive_a_restart,
    a_udp_flow_whose_endpoint_went_unseen_moves_at_the_start,
    a_tcp_connection_begun_before_the_rules_gets_through,
    a_udp_flow_begun_before_the_rules_gets_through,
];

fn serve_dns(s: &mut Subject, pods: &[&str]) -> Result<()> {
    let dns = dns(s).node_port(30053);
    let slice = Slice::new("dns", s.family(), pods.iter().map(|pod| s.endpoint(pod)));
    s.cluster.put(dns).put_slice(slice.port("dns", Protocol::Udp, POD_PORT));
    s.sync()
}

fn dns(s: &Subject) -> Service {
    Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53)
}

fn dns_address(s: &Subject) -> std::net::SocketAddr {
    (s.family().cluster_ip(53), 53).into()
}

const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];

fn without(gone: &str) -> Vec<&'static str> {
    PODS.into_iter().filter(|pod| *pod != gone).collect()
}

fn a_tcp_connection_outlives_its_endpoint_s_removal(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut from_pod = s.pod(3).place.open(s.web_address())?;
    let mut from_outside = s.client().place.open(s.web_address())?;
    for pods in [&["pod-2"][..], &[]] {
        s.serve_web(pods)?;
        from_pod.echo()?;
        from_outside.echo()?;
    }
    s.cluster.delete("web");
    s.sync()?;
    from_pod.echo()?;
    from_outside.echo()
}

fn a_udp_flow_moves_when_its_endpoint_goes(s: &mut Subject) -> Result<()> {
    serve_dns(s, &PODS)?;
    let flow = s.pod(3).place.flow(dns_address(s))?;
    let first = answerer(&flow.ask()?)?.to_owned();
    ensure!(answerer(&flow.ask()?)? == first, "a flow must stay where it is");
    serve_dns(s, &without(&first))?;
    let second = flow.ask()?;
    ensure!(answerer(&second)? != first, "{first} is gone, and still answers");
    Ok(())
}

fn a_udp_flow_stays_when_another_endpoint_goes(s: &mut Subject) -> Result<()> {
    serve_dns(s, &PODS)?;
    let flow = s.pod(3).place.flow(dns_address(s))?;
    let first = answerer(&flow.ask()?)?.to_owned();
    for other in without(&first) {
        serve_dns(s, &without(other))?;
        ensure!(answerer(&flow.ask()?)? == first, "the flow moved away from {first}, which is still there");
    }
    Ok(())
}

fn a_udp_flow_through_a_node_port_moves_when_its_endpoint_goes(s: &mut Subject) -> Result<()> {
    serve_dns(s, &PODS)?;
    let flow = s.client().place.flow((s.family().node(), 30053).into())?;
    let first = answerer(&flow.ask()?)?.to_owned();
    serve_dns(s, &without(&first))?;
    let second = flow.ask()?;
    ensure!(answerer(&second)? != first, "{first} is gone, and still answers");
    Ok(())
}

fn a_udp_flow_begun_before_the_first_endpoint_gets_through(s: &mut Subject) -> Result<()> {
    let cluster_ip = s.pod(3).place.flow(dns_address(s))?;
    let node_port = s.client().place.flow((s.family().node(), 30053).into())?;
    // Conntrack notes both flows as they are: not translated.
    ensure!(cluster_ip.ask_briefly()? == Outcome::Silence, "nobody should have that address yet");
    ensure!(node_port.ask()? == Outcome::Refused, "nobody should listen yet");
    serve_dns(s, &["pod-1"])?;
    ensure!(answerer(&cluster_ip.ask()?)? == "pod-1", "the flow is stuck");
    ensure!(answerer(&node_port.ask()?)? == "pod-1", "the flow is stuck");
    Ok(())
}

fn a_udp_flow_ends_with_its_service(s: &mut Subject) -> Result<()> {
    serve_dns(s, &["pod-1"])?;
    let flow = s.pod(3).place.flow(dns_address(s))?;
    flow.ask().and_then(|outcome| answerer(&outcome).map(drop))?;
    s.cluster.delete("dns");
    s.sync()?;
    let after = flow.ask_briefly()?;
    ensure!(answerer(&after).is_err(), "the service is gone, and is still answered: {after}");
    Ok(())
}

fn a_udp_flow_stays_with_an_endpoint_that_still_serves(s: &mut Subject) -> Result<()> {
    serve_dns(s, &["pod-1", "pod-2"])?;
    let flow = s.pod(3).place.flow(dns_address(s))?;
    let first = answerer(&flow.ask()?)?.to_owned();
    let leaving = s.endpoint(&first).terminating();
    for endpoint in &mut s.cluster.slice("dns").endpoints {
        if endpoint.address == leaving.address {
            *endpoint = leaving.clone();
        }
    }
    s.sync()?;
    ensure!(answerer(&flow.ask()?)? == first, "{first} still serves, but the flow moved");
    Ok(())
}

fn a_udp_flow_moves_when_many_services_change_at_once(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let pods = ["pod-1", "pod-2"];
    for number in 60..80u8 {
        let name = format!("dns{number}");
        let service = Service::new(&name, family.cluster_ip(number)).udp("dns", 53);
        let slice = Slice::new(&name, family, pods.map(|pod| s.endpoint(pod)));
        s.cluster.put(service).put_slice(slice.port("dns", Protocol::Udp, POD_PORT));
    }
    s.sync()?;
    let mut flows = Vec::new();
    for number in 60..80u8 {
        let flow = s.pod(3).place.flow((family.cluster_ip(number), 53).into())?;
        let first = answerer(&flow.ask()?)?.to_owned();
        flows.push((number, flow, first));
    }
    for (number, _, first) in &flows {
        let stays = pods.into_iter().find(|pod| pod != first).map(|pod| s.endpoint(pod));
        s.cluster.slice(&format!("dns{number}")).endpoints = stays.into_iter().collect();
    }
    s.sync()?;
    for (number, flow, first) in &flows {
        ensure!(answerer(&flow.ask()?)? != first, "dns{number}: {first} is gone, and still answers");
    }
    Ok(())
}

fn udp_flows_of_others_are_left_alone(s: &mut Subject) -> Result<()> {
    serve_dns(s, &["pod-1"])?;
    let direct = s.pod(3).place.flow((s.bed.pod(1).ip(s.family()), POD_PORT).into())?;
    direct.ask()?;
    let family = s.family().name().to_lowercase();
    let pod = s.bed.pod(1).ip(s.family());
    // The kernel gives each flow an id of its own.
    let id = |s: &Subject| -> Result<Option<String>> {
        let listed = s.bed.node.output("conntrack", &["-L", "-f", &family, "-p", "udp", "-o", "id"])?;
        let line = listed.lines().find(|line| line.contains(&format!(" dst={pod} ")));
        Ok(line.and_then(|line| line.split("id=").nth(1)).map(str::to_owned))
    };
    let before = id(s)?;
    serve_dns(s, &["pod-2"])?;
    serve_dns(s, &[])?;
    s.cluster.delete("dns");
    s.sync()?;
    let after = id(s)?;
    ensure!(before.is_some() && before == after, "flow {before:?} became {after:?}");
    Ok(())
}

fn udp_flows_survive_a_restart(s: &mut Subject) -> Result<()> {
    serve_dns(s, &PODS)?;
    let mut flows = Vec::new();
    for _ in 0..10 {
        let flow = s.pod(3).place.flow(dns_address(s))?;
        let first = answerer(&flow.ask()?)?.to_owned();
        flows.push((flow, first));
    }
    s.proxy()?.kill()?;
    s.restart()?;
    for (flow, first) in flows {
        ensure!(answerer(&flow.ask()?)? == first, "a flow moved over a restart");
    }
    Ok(())
}

fn a_udp_flow_whose_endpoint_went_unseen_moves_at_the_start(s: &mut Subject) -> Result<()> {
    serve_dns(s, &PODS)?;
    let flow = s.pod(3).place.flow(dns_address(s))?;
    let first = answerer(&flow.ask()?)?.to_owned();
    s.proxy()?.kill()?;
    let slice = Slice::new("dns", s.family(), without(&first).into_iter().map(|pod| s.endpoint(pod)));
    s.cluster.put_slice(slice.port("dns", Protocol::Udp, POD_PORT));
    let manifest = s.cluster.manifest();
    std::fs::write(s.proxy()?.folder().join("cluster.json"), manifest)?;
    s.restart()?;
    let second = flow.ask()?;
    ensure!(answerer(&second)? != first, "{first} is gone, and still answers");
    Ok(())
}

/// Somebody else's rule has connections tracked before any is translated.
fn track_connections(s: &Subject) -> Result<()> {
    let others = "add table inet other\nadd chain inet other c { type filter hook forward priority 0; }\n\
                  add rule inet other c ct state new counter";
    s.bed.node.feed("nft", &["-f", "-"], others).map(drop)
}

fn a_udp_flow_begun_before_the_rules_gets_through(s: &mut Subject) -> Result<()> {
    track_connections(s)?;
    let node_port = s.client().place.flow((s.family().node(), 30053).into())?;
    ensure!(node_port.ask()? == Outcome::Refused, "nobody should listen yet");
    serve_dns(s, &["pod-1"])?;
    ensure!(answerer(&node_port.ask()?)? == "pod-1", "the flow is stuck");
    Ok(())
}

fn a_tcp_connection_begun_before_the_rules_gets_through(s: &mut Subject) -> Result<()> {
    track_connections(s)?;
    let slice = s.slice("web", &["pod-1"]);
    s.cluster.put(s.web()).put_slice(slice);
    let (to, from) = (s.web_address(), (s.bed.pod(3).ip(s.family()), 40_404).into());
    let attempt = |s: &Subject| s.pod(3).place.from_socket_address(from).connect(Protocol::Tcp, to);
    ensure!(!matches!(attempt(s)?, Outcome::Answered { .. }), "nobody translates yet");
    let family = s.family().name().to_lowercase();
    let flows = s.bed.node.output("conntrack", &["-L", "-f", &family, "-d", &to.ip().to_string()])?;
    ensure!(flows.contains("sport=40404") && flows.contains("UNREPLIED"), "it is not remembered: {flows}");
    s.sync()?;
    let again = attempt(s)?;
    ensure!(matches!(again, Outcome::Answered { .. }), "the second attempt from that port leads to {again}");
    Ok(())
}
