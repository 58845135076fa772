//! ClusterIPs: who answers, and who is refused.

use anyhow::{Result, ensure};
use testbed::cluster::{Endpoint, Service, Slice, service_cidr};
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Family, OTHER_POD_PORT, Outcome, POD_PORT, Protocol, Subject};

testbed::scenarios![
    Subject:
    a_pod_reaches_every_endpoint_and_is_seen_as_itself,
    the_node_is_masqueraded,
    outsiders_are_masqueraded,
    endpoints_on_other_nodes_are_reached,
    udp_is_served_like_tcp,
    a_pod_that_reaches_itself_is_masqueraded,
    tcp_and_udp_on_one_port_number_go_their_own_ways,
    undefined_ports_are_refused,
    a_service_without_slices_refuses,
    endpoints_come_and_go,
    a_deleted_service_is_gone,
    ports_have_endpoints_of_their_own,
    slices_may_have_different_numbers_for_a_port,
    unallocated_cluster_ips_are_dropped,
    service_cidrs_come_and_go,
    connections_spread_evenly,
    unready_endpoints_are_not_used,
    a_port_may_be_renamed_and_renumbered,
    a_port_may_change_its_protocol,
    the_type_may_change,
    headless_services_have_no_rules,
    headless_slices_are_ignored,
    a_service_may_come_back_with_another_address,
    services_of_other_proxies_are_left_alone,
    an_endpoint_in_two_slices_counts_once,
    name_slices_are_ignored,
    a_dual_stack_service_answers_in_both_families,
    many_services_keep_to_themselves,
];

fn a_pod_reaches_every_endpoint_and_is_seen_as_itself(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "pod-2", "remote-1"], AsItself)?;
    Ok(())
}

fn the_node_is_masqueraded(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.node(), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn outsiders_are_masqueraded(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn endpoints_on_other_nodes_are_reached(s: &mut Subject) -> Result<()> {
    s.serve_web(&["remote-1", "remote-2"])?;
    s.reaches(s.pod(1), s.web_address(), &["remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn udp_is_served_like_tcp(s: &mut Subject) -> Result<()> {
    let service = Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53);
    let pods = ["pod-1", "remote-1"].map(|pod| s.endpoint(pod));
    let slice = Slice::new("dns", s.family(), pods).port("dns", Protocol::Udp, POD_PORT);
    s.cluster.put(service).put_slice(slice);
    s.sync()?;
    let dns = (s.family().cluster_ip(53), 53);
    s.reaches_over(Protocol::Udp, s.pod(3), dns, &["pod-1", "remote-1"], AsItself)?;
    s.reaches_over(Protocol::Udp, s.node(), dns, &["pod-1", "remote-1"], Masqueraded)?;
    s.reaches_over(Protocol::Udp, s.client(), dns, &["pod-1", "remote-1"], Masqueraded)?;
    s.unanswered(s.pod(3), dns)
}

fn a_pod_that_reaches_itself_is_masqueraded(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    s.reaches(s.pod(1), s.web_address(), &["pod-1"], Masqueraded)?;
    s.serve_web(&["pod-1", "pod-2"])?;
    let counts = s.pod(1).place.connect_times(Protocol::Tcp, s.web_address(), 60)?;
    let answered = |by: &str, seen_as| Outcome::Answered { by: by.to_owned(), seen_as };
    let expected =
        [answered("pod-1", s.seen_as(s.pod(1), "pod-1", Masqueraded)), answered("pod-2", s.pod(1).ip)];
    ensure!(counts.keys().eq(&expected), "{counts:?}");
    Ok(())
}

fn tcp_and_udp_on_one_port_number_go_their_own_ways(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let service = Service::new("dns", family.cluster_ip(53)).tcp("dns-tcp", 53).udp("dns", 53);
    let tcp = Slice::new("dns", family, [s.endpoint("pod-1")]).port("dns-tcp", Protocol::Tcp, POD_PORT);
    let udp = Slice::new("dns", family, [s.endpoint("pod-2")]).port("dns", Protocol::Udp, POD_PORT);
    s.cluster.put(service).put_slice(tcp.named("dns-1")).put_slice(udp.named("dns-2"));
    s.sync()?;
    let dns = (family.cluster_ip(53), 53);
    s.reaches_over(Protocol::Tcp, s.pod(3), dns, &["pod-1"], AsItself)?;
    s.reaches_over(Protocol::Udp, s.pod(3), dns, &["pod-2"], AsItself)?;
    Ok(())
}

fn undefined_ports_are_refused(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    for port in [POD_PORT, 81] {
        let to = (s.family().cluster_ip(10), port);
        for who in [s.pod(2), s.node(), s.client()] {
            s.refused(who, to)?;
            s.comes_to(Protocol::Udp, who, to, &Outcome::Refused)?;
        }
    }
    s.comes_to(Protocol::Udp, s.pod(2), s.web_address(), &Outcome::Refused)
}

fn a_service_without_slices_refuses(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080).external_ip(family.external_ip(5));
    s.cluster.put(web.load_balancer_ip(family.load_balancer_ip(6)));
    s.sync()?;
    s.refused(s.node(), s.web_address())?;
    for who in [s.pod(1), s.client()] {
        for to in [family.cluster_ip(10), family.external_ip(5), family.load_balancer_ip(6)] {
            s.refused(who, (to, 80))?;
        }
        s.refused(who, (family.node(), 30080))?;
    }
    Ok(())
}

fn endpoints_come_and_go(s: &mut Subject) -> Result<()> {
    let web = s.web();
    s.cluster.put(web);
    s.sync()?;
    s.refused(s.pod(3), s.web_address())?;
    for pods in [&["pod-1"][..], &["pod-1", "remote-1"], &["remote-1", "pod-2", "pod-1"], &["pod-2"]] {
        s.serve_web(pods)?;
        let mut pods = pods.to_vec();
        pods.sort_unstable();
        s.reaches(s.pod(3), s.web_address(), &pods, AsItself)?;
    }
    s.serve_web(&[])?;
    s.refused(s.pod(3), s.web_address())?;
    s.serve_web(&["pod-2"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-2"], AsItself)?;
    s.cluster.delete_slice("web");
    s.sync()?;
    s.refused(s.pod(3), s.web_address())
}

fn a_deleted_service_is_gone(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.cluster.delete("web");
    s.sync()?;
    s.unanswered(s.pod(3), s.web_address())
}

fn ports_have_endpoints_of_their_own(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().tcp("metrics", 9000);
    let metrics = Slice::new("web", family, [s.endpoint("pod-2")]);
    let metrics = metrics.port("metrics", Protocol::Tcp, OTHER_POD_PORT).named("web-metrics");
    let http = s.slice("web", &["pod-1"]);
    s.cluster.put(web).put_slice(http).put_slice(metrics);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.reaches(s.pod(3), (family.cluster_ip(10), 9000), &["pod-2"], AsItself)?;
    Ok(())
}

fn slices_may_have_different_numbers_for_a_port(s: &mut Subject) -> Result<()> {
    let (web, first) = (s.web(), s.slice("web", &["pod-1"]));
    let second = Slice::new("web", s.family(), [s.endpoint("pod-2")]);
    let second = second.port("http", Protocol::Tcp, OTHER_POD_PORT).named("web-2");
    s.cluster.put(web).put_slice(first).put_slice(second);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "pod-2"], AsItself)?;
    Ok(())
}

fn unallocated_cluster_ips_are_dropped(s: &mut Subject) -> Result<()> {
    let cidrs = Family::BOTH.map(Family::service_cidr);
    s.cluster.put_other("cidr", service_cidr("kubernetes", &cidrs));
    s.serve_web(&["pod-1"])?;
    let nobody = (s.family().cluster_ip(200), 80);
    s.dropped(s.pod(2), nobody)?;
    s.dropped(s.node(), nobody)?;
    // Next to it, everything is as before.
    s.reaches(s.pod(2), s.web_address(), &["pod-1"], AsItself)?;
    s.reaches(s.pod(2), (s.bed.pod(1).ip(s.family()), POD_PORT), &["pod-1"], AsItself)?;
    Ok(())
}

fn service_cidrs_come_and_go(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let family = s.family();
    let nobody = (family.cluster_ip(200), 80);
    // No business of ours: it leaves by the default route, and nobody has it.
    s.comes_to(Protocol::Tcp, s.pod(2), nobody, &Outcome::Unreachable)?;
    s.cluster.put_other("cidr", service_cidr("kubernetes", &[family.service_cidr()]));
    s.sync()?;
    s.dropped(s.pod(2), nobody)?;
    s.reaches(s.pod(2), s.web_address(), &["pod-1"], AsItself)?;
    s.cluster.put_other("cidr", service_cidr("kubernetes", &[]));
    s.sync()?;
    s.comes_to(Protocol::Tcp, s.pod(2), nobody, &Outcome::Unreachable)
}

fn connections_spread_evenly(s: &mut Subject) -> Result<()> {
    const CONNECTIONS: usize = 900;
    let pods = ["pod-1", "pod-2", "remote-1"];
    s.serve_web(&pods)?;
    let counts = s.pod(3).place.connect_times(Protocol::Tcp, s.web_address(), CONNECTIONS)?;
    let expected = CONNECTIONS as f64 / pods.len() as f64;
    let deviation = |count: &usize| (*count as f64 - expected).powi(2) / expected;
    let chi_square: f64 = counts.values().map(deviation).sum();
    // With two degrees of freedom, once in a million runs.
    ensure!(counts.len() == pods.len() && chi_square < 27.6, "chi-square {chi_square}: {counts:?}");
    Ok(())
}

fn unready_endpoints_are_not_used(s: &mut Subject) -> Result<()> {
    let (web, ready) = (s.web(), s.endpoint("pod-1"));
    let slice = s.slice_of("web", [ready, s.endpoint("pod-2").not_ready()]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    let slice = s.slice_of("web", [s.endpoint("pod-1").not_ready(), s.endpoint("pod-2").not_ready()]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.refused(s.pod(3), s.web_address())
}

fn a_port_may_be_renamed_and_renumbered(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    "web".clone_into(&mut s.cluster.service("web").ports[0].name);
    "web".clone_into(&mut s.cluster.slice("web").ports[0].0);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.cluster.service("web").ports[0].port = 8000;
    s.sync()?;
    s.unanswered(s.pod(3), s.web_address())?;
    s.reaches(s.pod(3), (s.family().cluster_ip(10), 8000), &["pod-1"], AsItself)?;
    Ok(())
}

fn a_port_may_change_its_protocol(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    s.cluster.service("web").ports[0].protocol = "UDP";
    s.cluster.slice("web").ports[0].1 = "UDP";
    s.sync()?;
    s.reaches_over(Protocol::Udp, s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.unanswered(s.pod(3), s.web_address())
}

fn the_type_may_change(s: &mut Subject) -> Result<()> {
    let node_port = (s.family().node(), 30080);
    s.serve_web(&["pod-1"])?;
    for (service_type, number, served, at_node_port) in [
        ("ExternalName", 0, false, false),
        ("ClusterIP", 0, true, false),
        ("NodePort", 30080, true, true),
        ("ClusterIP", 0, true, false),
        ("ExternalName", 0, false, false),
    ] {
        let service = s.cluster.service("web");
        service_type.clone_into(&mut service.service_type);
        service.ports[0].node_port = number;
        s.sync()?;
        match served {
            true => s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself).map(drop)?,
            false => s.unanswered(s.pod(3), s.web_address())?,
        }
        match at_node_port {
            true => s.reaches(s.client(), node_port, &["pod-1"], Masqueraded).map(drop)?,
            false => s.refused(s.client(), node_port)?,
        }
    }
    Ok(())
}

fn headless_services_have_no_rules(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    s.cluster.service("web").cluster_ips = vec!["None".to_owned()];
    s.sync()?;
    s.unanswered(s.pod(3), s.web_address())
}

fn headless_slices_are_ignored(s: &mut Subject) -> Result<()> {
    let label = ("service.kubernetes.io/headless".to_owned(), String::new());
    let mut slice = s.slice("web", &["pod-1"]);
    slice.labels.extend([label]);
    let web = s.web();
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.refused(s.pod(3), s.web_address())
}

fn a_service_may_come_back_with_another_address(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let again = Service::new("web", s.family().cluster_ip(11)).tcp("http", 80);
    s.cluster.put(again);
    s.sync()?;
    s.unanswered(s.pod(3), s.web_address())?;
    s.reaches(s.pod(3), (s.family().cluster_ip(11), 80), &["pod-1"], AsItself)?;
    Ok(())
}

fn services_of_other_proxies_are_left_alone(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), String::new());
    s.cluster.service("web").labels.extend([label]);
    s.sync()?;
    s.unanswered(s.pod(3), s.web_address())?;
    s.cluster.service("web").labels.clear();
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    Ok(())
}

fn an_endpoint_in_two_slices_counts_once(s: &mut Subject) -> Result<()> {
    let (web, first) = (s.web(), s.slice("web", &["pod-1", "pod-2"]));
    let second = s.slice_of("web", [s.endpoint("pod-1").terminating()]).named("web-2");
    s.cluster.put(web).put_slice(first).put_slice(second);
    s.sync()?;
    let counts = s.pod(3).place.connect_times(Protocol::Tcp, s.web_address(), 400)?;
    // Half of 400, give or take six standard deviations; two thirds would be 267.
    ensure!(counts.len() == 2 && counts.values().all(|count| (140..=260).contains(count)), "{counts:?}");
    Ok(())
}

fn name_slices_are_ignored(s: &mut Subject) -> Result<()> {
    let web = s.web();
    let mut slice =
        s.slice_of("web", [Endpoint { address: "example.com".to_owned(), ..Endpoint::default() }]);
    slice.address_type = "FQDN";
    let usable = s.slice("web", &["pod-1"]);
    s.cluster.put(web).put_slice(slice.named("web-names")).put_slice(usable);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    Ok(())
}

fn a_dual_stack_service_answers_in_both_families(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    let web = s.web().dual_stack(other.cluster_ip(10));
    let ours = s.slice("web", &["pod-1"]);
    let theirs = Slice::new("web", other, [s.endpoint_in("pod-2", other)]);
    s.cluster.put(web).put_slice(ours);
    s.cluster.put_slice(theirs.port("http", Protocol::Tcp, POD_PORT).named("web-other"));
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    let in_other = s.pod(3).place.connect(Protocol::Tcp, (other.cluster_ip(10), 80).into())?;
    let seen_as = s.bed.pod(3).ip(other);
    ensure!(in_other == Outcome::Answered { by: "pod-2".to_owned(), seen_as }, "{in_other}");
    Ok(())
}

fn many_services_keep_to_themselves(s: &mut Subject) -> Result<()> {
    let pods = ["pod-1", "pod-2", "remote-1"];
    for number in 20..80u8 {
        let name = format!("s{number}");
        let service = Service::new(&name, s.family().cluster_ip(number)).tcp("http", 80);
        let slice = s.slice(&name, &[pods[usize::from(number) % 3]]);
        s.cluster.put(service).put_slice(slice);
    }
    s.sync()?;
    for number in 20..80u8 {
        let outcome = s.pod(3).place.connect(Protocol::Tcp, (s.family().cluster_ip(number), 80).into())?;
        let expected = pods[usize::from(number) % 3];
        ensure!(testbed::subject::answerer(&outcome)? == expected, "s{number}: {outcome}, not {expected}");
    }
    Ok(())
}
