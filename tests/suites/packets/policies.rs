//! `externalTrafficPolicy`, `internalTrafficPolicy`, and who is masqueraded.

use anyhow::Result;

use testbed::Subject;
use testbed::subject::Seen::{AsItself, Masqueraded};

testbed::scenarios![
    Subject:
    external_local_keeps_outsiders_on_this_node_as_themselves,
    external_local_without_local_endpoints_drops_outsiders,
    external_local_lets_pods_and_the_node_go_anywhere,
    external_local_keeps_everybody_on_this_node_while_it_can,
    external_local_without_any_endpoint_refuses,
    the_node_is_refused_at_external_addresses_without_endpoints,
    external_local_leaves_the_cluster_ip_alone,
    external_local_follows_endpoints,
    internal_local_stays_on_this_node,
    internal_local_without_local_endpoints_drops,
    internal_local_leaves_outsiders_alone,
    both_policies_local,
    a_policy_may_change,
    external_local_hairpin,
];

fn external_frontends(s: &Subject) -> [(std::net::IpAddr, u16); 3] {
    let family = s.family();
    [(family.node(), 30080), (family.external_ip(5), 80), (family.load_balancer_ip(6), 80)]
}

fn serve_everywhere(
    s: &mut Subject,
    external_local: bool,
    internal_local: bool,
    pods: &[&str],
) -> Result<()> {
    let family = s.family();
    let mut web = s.web().node_port(30080).external_ip(family.external_ip(5));
    web.external_local = external_local;
    web.internal_local = internal_local;
    s.serve(web.load_balancer_ip(family.load_balancer_ip(6)), pods)
}

fn external_local_keeps_outsiders_on_this_node_as_themselves(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, false, &["pod-1", "pod-2", "remote-1"])?;
    for to in external_frontends(s) {
        s.reaches(s.client(), to, &["pod-1", "pod-2"], AsItself)?;
        s.reaches(s.foreign_client(), to, &["pod-1", "pod-2"], AsItself)?;
    }
    Ok(())
}

fn external_local_without_local_endpoints_drops_outsiders(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, false, &["remote-1"])?;
    for to in external_frontends(s) {
        s.dropped(s.client(), to)?;
    }
    Ok(())
}

fn external_local_lets_pods_and_the_node_go_anywhere(s: &mut Subject) -> Result<()> {
    for pods in [&["pod-1", "remote-1"][..], &["remote-1", "remote-2"]] {
        serve_everywhere(s, true, false, pods)?;
        for to in external_frontends(s) {
            s.reaches(s.pod(3), to, pods, AsItself)?;
            s.reaches(s.node(), to, pods, Masqueraded)?;
        }
    }
    Ok(())
}

fn external_local_keeps_everybody_on_this_node_while_it_can(s: &mut Subject) -> Result<()> {
    for (pods, used) in
        [(["pod-1", "remote-1"], &["pod-1"][..]), (["remote-1", "remote-2"], &["remote-1", "remote-2"])]
    {
        serve_everywhere(s, true, false, &pods)?;
        for to in external_frontends(s) {
            s.reaches(s.pod(3), to, used, AsItself)?;
            s.reaches(s.node(), to, used, Masqueraded)?;
        }
    }
    for to in external_frontends(s) {
        s.dropped(s.client(), to)?;
    }
    Ok(())
}

fn external_local_without_any_endpoint_refuses(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, false, &[])?;
    for to in external_frontends(s) {
        for who in [s.pod(3), s.client()] {
            s.refused(who, to)?;
        }
    }
    Ok(())
}

fn the_node_is_refused_at_external_addresses_without_endpoints(s: &mut Subject) -> Result<()> {
    for external_local in [false, true] {
        serve_everywhere(s, external_local, false, &[])?;
        for to in external_frontends(s) {
            s.refused(s.node(), to)?;
        }
    }
    Ok(())
}

fn external_local_leaves_the_cluster_ip_alone(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, false, &["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn external_local_follows_endpoints(s: &mut Subject) -> Result<()> {
    let [node_port, ..] = external_frontends(s);
    for (pods, local) in [
        (&["remote-1"][..], &[][..]),
        (&["remote-1", "pod-1"], &["pod-1"][..]),
        (&["pod-1", "pod-2"], &["pod-1", "pod-2"]),
        (&["remote-1", "remote-2", "pod-2"], &["pod-2"]),
        (&["remote-2"], &[]),
    ] {
        serve_everywhere(s, true, false, pods)?;
        match local {
            [] => s.dropped(s.client(), node_port)?,
            local => s.reaches(s.client(), node_port, local, AsItself).map(drop)?,
        }
    }
    Ok(())
}

fn internal_local_stays_on_this_node(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, false, true, &["pod-1", "pod-2", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "pod-2"], AsItself)?;
    s.reaches(s.node(), s.web_address(), &["pod-1", "pod-2"], Masqueraded)?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "pod-2"], Masqueraded)?;
    Ok(())
}

fn internal_local_without_local_endpoints_drops(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, false, true, &["remote-1"])?;
    s.dropped(s.pod(3), s.web_address())?;
    s.dropped(s.node(), s.web_address())?;
    s.dropped(s.client(), s.web_address())
}

fn internal_local_leaves_outsiders_alone(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, false, true, &["pod-1", "remote-1"])?;
    for to in external_frontends(s) {
        s.reaches(s.client(), to, &["pod-1", "remote-1"], Masqueraded)?;
    }
    Ok(())
}

fn both_policies_local(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, true, &["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    for to in external_frontends(s) {
        s.reaches(s.client(), to, &["pod-1"], AsItself)?;
        // From pods and the node, external frontends know no internal policy.
        s.reaches(s.pod(3), to, &["pod-1", "remote-1"], AsItself)?;
        s.reaches(s.node(), to, &["pod-1", "remote-1"], Masqueraded)?;
    }
    Ok(())
}

fn a_policy_may_change(s: &mut Subject) -> Result<()> {
    let pods = ["pod-1", "remote-1"];
    let [node_port, ..] = external_frontends(s);
    for _ in 0..2 {
        serve_everywhere(s, false, false, &pods)?;
        s.reaches(s.client(), node_port, &pods, Masqueraded)?;
        s.reaches(s.pod(3), s.web_address(), &pods, AsItself)?;
        serve_everywhere(s, true, true, &pods)?;
        s.reaches(s.client(), node_port, &["pod-1"], AsItself)?;
        s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    }
    Ok(())
}

fn external_local_hairpin(s: &mut Subject) -> Result<()> {
    serve_everywhere(s, true, true, &["pod-1"])?;
    for to in external_frontends(s).into_iter().chain([(s.family().cluster_ip(10), 80)]) {
        s.reaches(s.pod(1), to, &["pod-1"], Masqueraded)?;
    }
    Ok(())
}
