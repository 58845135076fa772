//! Node ports, external IPs and load-balancer IPs.

use anyhow::{Result, ensure};
use testbed::cluster::{Service, Slice, node};
use testbed::subject::Seen::{AsItself, Masqueraded, MasqueradedUnlessCarried};
use testbed::{Family, POD_PORT, Protocol, Subject};

testbed::scenarios![
    Subject:
    node_ports_answer_outsiders_masqueraded,
    node_ports_answer_pods_and_the_node_masqueraded,
    node_ports_never_answer_on_loopback,
    node_ports_answer_on_every_address_while_the_node_is_unknown,
    node_ports_answer_on_the_primary_address_by_default,
    node_ports_answer_on_the_primary_address_only,
    node_ports_of_tcp_and_udp_do_not_meet,
    a_node_port_that_goes_is_refused,
    external_ips_answer_everybody_masqueraded,
    load_balancer_ips_answer_everybody_masqueraded,
    load_balancers_in_proxy_mode_have_no_rules,
    a_load_balancer_needs_no_node_port,
    source_ranges_guard_load_balancer_ips_only,
    source_ranges_hold_for_pods_too,
    source_ranges_of_the_other_family_admit_nobody,
    source_ranges_may_overlap,
    source_ranges_guard_services_without_endpoints,
    a_contested_external_ip_belongs_to_the_older_service,
    a_contested_node_port_belongs_to_the_older_service,
    every_frontend_of_a_service_works_at_once,
    unusable_addresses_cost_only_themselves,
];

fn node_ports_answer_outsiders_masqueraded(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1", "remote-1"])?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1", "remote-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().node(), 30081))
}

fn node_ports_answer_pods_and_the_node_masqueraded(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1", "remote-1"])?;
    let to = (s.family().node(), 30080);
    s.reaches(s.pod(3), to, &["pod-1", "remote-1"], MasqueradedUnlessCarried)?;
    s.reaches(s.node(), (s.family().node(), 30080), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn node_ports_never_answer_on_loopback(s: &mut Subject) -> Result<()> {
    s.args(&["--nodeport-addresses", "0.0.0.0/0,::/0"]);
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    s.reaches(s.node(), (s.family().node(), 30080), &["pod-1"], Masqueraded)?;
    s.refused(s.node(), (s.family().loopback(), 30080))
}

fn node_ports_answer_on_every_address_while_the_node_is_unknown(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    for address in [s.family().node(), s.family().second_node_address()] {
        s.reaches(s.client(), (address, 30080), &["pod-1"], Masqueraded)?;
    }
    Ok(())
}

fn node_ports_answer_on_the_primary_address_by_default(s: &mut Subject) -> Result<()> {
    check_primary(s)
}

fn node_ports_answer_on_the_primary_address_only(s: &mut Subject) -> Result<()> {
    s.args(&["--nodeport-addresses", "primary"]);
    check_primary(s)
}

fn check_primary(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    let slice = s.slice("web", &["pod-1"]);
    s.cluster.put(web).put_slice(slice);
    s.cluster.put_other("node", node(None, &Family::BOTH.map(Family::node), &[]));
    s.sync()?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().second_node_address(), 30080))?;
    // A node whose address changes is followed.
    let addresses = Family::BOTH.map(Family::second_node_address);
    s.cluster.put_other("node", node(None, &addresses, &[]));
    s.sync()?;
    s.reaches(s.client(), (s.family().second_node_address(), 30080), &["pod-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().node(), 30080))
}

fn node_ports_of_tcp_and_udp_do_not_meet(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080);
    let dns = Service::new("dns", family.cluster_ip(53)).udp("dns", 53).node_port(30080);
    let web_slice = s.slice("web", &["pod-1"]);
    let dns_slice = Slice::new("dns", family, [s.endpoint("pod-2")]).port("dns", Protocol::Udp, POD_PORT);
    s.cluster.put(web).put(dns).put_slice(web_slice).put_slice(dns_slice);
    s.sync()?;
    s.reaches(s.client(), (family.node(), 30080), &["pod-1"], Masqueraded)?;
    s.reaches_over(Protocol::Udp, s.client(), (family.node(), 30080), &["pod-2"], Masqueraded)?;
    Ok(())
}

fn a_node_port_that_goes_is_refused(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], Masqueraded)?;
    s.cluster.service("web").ports[0].node_port = 30090;
    s.sync()?;
    s.refused(s.client(), (s.family().node(), 30080))?;
    s.reaches(s.client(), (s.family().node(), 30090), &["pod-1"], Masqueraded)?;
    Ok(())
}

fn external_ips_answer_everybody_masqueraded(s: &mut Subject) -> Result<()> {
    let web = s.web().external_ip(s.family().external_ip(5));
    s.serve(web, &["pod-1", "remote-1"])?;
    for who in [s.pod(3), s.node(), s.client()] {
        let to = (s.family().external_ip(5), 80);
        s.reaches(who, to, &["pod-1", "remote-1"], MasqueradedUnlessCarried)?;
    }
    Ok(())
}

fn load_balancer_ips_answer_everybody_masqueraded(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web =
        s.web().load_balancer_ip(family.load_balancer_ip(6)).load_balancer_ip(family.load_balancer_ip(7));
    s.serve(web, &["pod-1", "remote-1"])?;
    for who in [s.pod(3), s.node(), s.client()] {
        for number in [6, 7] {
            let to = (family.load_balancer_ip(number), 80);
            s.reaches(who, to, &["pod-1", "remote-1"], MasqueradedUnlessCarried)?;
        }
    }
    Ok(())
}

fn load_balancers_in_proxy_mode_have_no_rules(s: &mut Subject) -> Result<()> {
    let ip = s.family().load_balancer_ip(6);
    let mut web = s.web().node_port(30080);
    web.load_balancer.push((ip.to_string(), Some("Proxy")));
    s.serve(web, &["pod-1"])?;
    s.unanswered(s.pod(3), (ip, 80))?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], Masqueraded)?;
    s.cluster.service("web").load_balancer[0].1 = Some("VIP");
    s.sync()?;
    s.reaches(s.pod(3), (ip, 80), &["pod-1"], MasqueradedUnlessCarried)?;
    Ok(())
}

fn a_load_balancer_needs_no_node_port(s: &mut Subject) -> Result<()> {
    let web = s.web().load_balancer_ip(s.family().load_balancer_ip(6));
    s.serve(web, &["pod-1"])?;
    s.reaches(s.client(), (s.family().load_balancer_ip(6), 80), &["pod-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().node(), 30080))
}

fn source_ranges_guard_load_balancer_ips_only(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080).external_ip(family.external_ip(5));
    let web = web.load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
    s.serve(web, &["pod-1"])?;
    s.reaches(s.client(), (family.load_balancer_ip(6), 80), &["pod-1"], Masqueraded)?;
    s.dropped(s.foreign_client(), (family.load_balancer_ip(6), 80))?;
    for to in [(family.node(), 30080), (family.external_ip(5), 80), (family.cluster_ip(10), 80)] {
        s.reaches(s.foreign_client(), to, &["pod-1"], Masqueraded)?;
    }
    // Without ranges, everybody is welcome again.
    s.cluster.service("web").source_ranges.clear();
    s.sync()?;
    s.reaches(s.foreign_client(), (family.load_balancer_ip(6), 80), &["pod-1"], Masqueraded)?;
    Ok(())
}

fn source_ranges_hold_for_pods_too(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let to = (family.load_balancer_ip(6), 80);
    let web = s.web().load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
    s.serve(web, &["pod-1"])?;
    s.dropped(s.pod(3), to)?;
    s.dropped(s.node(), to)?;
    s.cluster.service("web").source_ranges.push(family.cluster_cidr().to_owned());
    s.sync()?;
    s.reaches(s.pod(3), to, &["pod-1"], MasqueradedUnlessCarried)?;
    s.dropped(s.node(), to)
}

fn source_ranges_of_the_other_family_admit_nobody(s: &mut Subject) -> Result<()> {
    let other = if s.family() == Family::V4 { Family::V6 } else { Family::V4 };
    let to = (s.family().load_balancer_ip(6), 80);
    let web = s.web().load_balancer_ip(s.family().load_balancer_ip(6)).source_range(other.client_range());
    s.serve(web, &["pod-1"])?;
    s.dropped(s.client(), to)?;
    s.reaches(s.client(), s.web_address(), &["pod-1"], Masqueraded)?;
    Ok(())
}

fn source_ranges_may_overlap(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let to = (family.load_balancer_ip(6), 80);
    let web = s.web().load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
    let own = format!("{}/{}", family.client(), if family == Family::V4 { 32 } else { 128 });
    s.serve(web.source_range(&own), &["pod-1"])?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    s.dropped(s.foreign_client(), to)?;
    // Narrower: the wide range goes, the narrow one within it stays.
    s.cluster.service("web").source_ranges.remove(0);
    s.sync()?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    s.dropped(s.foreign_client(), to)
}

fn source_ranges_guard_services_without_endpoints(s: &mut Subject) -> Result<()> {
    let to = (s.family().load_balancer_ip(6), 80);
    let web =
        s.web().load_balancer_ip(s.family().load_balancer_ip(6)).source_range(s.family().client_range());
    s.cluster.put(web);
    s.sync()?;
    s.refused(s.client(), to)?;
    s.dropped(s.foreign_client(), to)
}

fn a_contested_external_ip_belongs_to_the_older_service(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let to = (family.external_ip(5), 80);
    let mut young = s.web().external_ip(family.external_ip(5));
    young.created = Some("2026-02-02T00:00:00Z");
    let mut old =
        Service::new("zebra", family.cluster_ip(11)).tcp("http", 80).external_ip(family.external_ip(5));
    old.created = Some("2026-01-01T00:00:00Z");
    let slices = [s.slice("web", &["pod-1"]), s.slice("zebra", &["pod-2"])];
    let [web_slice, zebra_slice] = slices;
    s.cluster.put(young).put_slice(web_slice);
    s.sync()?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    s.cluster.put(old).put_slice(zebra_slice);
    s.sync()?;
    s.reaches(s.client(), to, &["pod-2"], Masqueraded)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.proxy()?.await_line_with("spec.externalIPs")?;
    s.cluster.delete("zebra");
    s.sync()?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    Ok(())
}

fn a_contested_node_port_belongs_to_the_older_service(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let to = (family.node(), 30080);
    let mut old = s.web().node_port(30080);
    old.created = Some("2026-01-01T00:00:00Z");
    let mut young = Service::new("alpha", family.cluster_ip(11)).tcp("http", 80).node_port(30080);
    young.created = Some("2026-02-02T00:00:00Z");
    let [web_slice, alpha_slice] = [s.slice("web", &["pod-1"]), s.slice("alpha", &["pod-2"])];
    s.cluster.put(old).put(young).put_slice(web_slice).put_slice(alpha_slice);
    s.sync()?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    s.reaches(s.pod(3), (family.cluster_ip(11), 80), &["pod-2"], AsItself)?;
    s.cluster.service("web").ports[0].node_port = 0;
    s.sync()?;
    s.reaches(s.client(), to, &["pod-2"], Masqueraded)?;
    Ok(())
}

fn every_frontend_of_a_service_works_at_once(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080).external_ip(family.external_ip(5));
    let web = web.external_ip(family.external_ip(6)).load_balancer_ip(family.load_balancer_ip(6));
    let frontends = [
        (family.cluster_ip(10), 80),
        (family.external_ip(5), 80),
        (family.external_ip(6), 80),
        (family.load_balancer_ip(6), 80),
        (family.node(), 30080),
    ];
    s.cluster.put(web);
    for pods in [&["pod-1", "pod-2"][..], &["pod-2", "remote-1", "remote-2"], &["remote-1"]] {
        let slice = s.slice("web", pods);
        s.cluster.put_slice(slice);
        s.sync()?;
        for to in frontends {
            s.reaches(s.client(), to, pods, Masqueraded)?;
        }
    }
    Ok(())
}

fn unusable_addresses_cost_only_themselves(s: &mut Subject) -> Result<()> {
    let mut web = s.web().external_ip(s.family().external_ip(5));
    web.external_ips.extend(["not an address", "127.0.0.1", "224.0.0.1", "::1"].map(str::to_owned));
    web.source_ranges.push("300.0.0.0/8".to_owned());
    let mut slice = s.slice("web", &["pod-1"]);
    for address in ["169.254.0.1", "0.0.0.0", "fe80::1", "nonsense"] {
        slice
            .endpoints
            .push(testbed::cluster::Endpoint { address: address.to_owned(), ..Default::default() });
    }
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.reaches(s.client(), (s.family().external_ip(5), 80), &["pod-1"], Masqueraded)?;
    let reported = s.proxy()?.await_line_with("spec.externalIPs[1]")?;
    ensure!(reported.contains("test/web"), "the log does not say which Service: {reported}");
    Ok(())
}
