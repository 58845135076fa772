//! Terminating endpoints and topology hints.

use anyhow::Result;
use testbed::cluster::node;
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Family, Subject};

testbed::scenarios![
    Subject:
    terminating_endpoints_help_out_when_none_is_ready,
    terminated_endpoints_are_never_used,
    local_terminating_endpoints_go_before_remote_ready_ones_under_local,
    zone_hints_keep_traffic_in_the_zone,
    one_endpoint_without_hint_disables_hints,
    hints_need_a_zone_of_our_own,
    hints_for_other_zones_only_are_ignored,
    a_zone_that_changes_is_followed,
    hints_of_unready_endpoints_do_not_count,
    node_hints_keep_traffic_on_the_node,
    node_hints_give_way_to_zone_hints,
    hints_do_not_matter_under_local,
];

fn terminating_endpoints_help_out_when_none_is_ready(s: &mut Subject) -> Result<()> {
    let web = s.web();
    let slice = s.slice_of("web", [s.endpoint("pod-1"), s.endpoint("pod-2").terminating()]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    let slice = s.slice_of("web", [s.endpoint("pod-1").terminated(), s.endpoint("pod-2").terminating()]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-2"], AsItself)?;
    Ok(())
}

fn terminated_endpoints_are_never_used(s: &mut Subject) -> Result<()> {
    let web = s.web();
    let slice = s.slice_of("web", [s.endpoint("pod-1").terminated(), s.endpoint("pod-2").terminated()]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.refused(s.pod(3), s.web_address())
}

fn local_terminating_endpoints_go_before_remote_ready_ones_under_local(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080).external_local();
    let slice = s.slice_of("web", [s.endpoint("pod-1").terminating(), s.endpoint("remote-1")]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], AsItself)?;
    s.reaches(s.pod(3), s.web_address(), &["remote-1"], AsItself)?;
    Ok(())
}

fn in_zone(s: &mut Subject, zone: Option<&str>) {
    s.cluster.put_other("node", node(zone, &Family::BOTH.map(Family::node), &[]));
}

/// `web` on pod-1 for zone a, remote-1 for zone b, remote-2 for both.
fn hinted(s: &mut Subject) -> Result<()> {
    let web = s.web();
    let slice = s.slice_of(
        "web",
        [
            s.endpoint("pod-1").for_zone("a"),
            s.endpoint("remote-1").for_zone("b"),
            s.endpoint("remote-2").for_zone("a").for_zone("b"),
        ],
    );
    s.cluster.put(web).put_slice(slice);
    s.sync()
}

fn zone_hints_keep_traffic_in_the_zone(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("a"));
    hinted(s)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-2"], AsItself)?;
    Ok(())
}

fn one_endpoint_without_hint_disables_hints(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("a"));
    hinted(s)?;
    let plain = s.endpoint("pod-2");
    s.cluster.slice("web").endpoints.push(plain);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "pod-2", "remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn hints_need_a_zone_of_our_own(s: &mut Subject) -> Result<()> {
    in_zone(s, None);
    hinted(s)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn hints_for_other_zones_only_are_ignored(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("c"));
    hinted(s)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn a_zone_that_changes_is_followed(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("a"));
    hinted(s)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-2"], AsItself)?;
    in_zone(s, Some("b"));
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn hints_of_unready_endpoints_do_not_count(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("a"));
    hinted(s)?;
    let unhinted = s.endpoint("pod-2").not_ready();
    let only_for_us = s.endpoint("pod-1").not_ready().for_zone("a");
    s.cluster.slice("web").endpoints[0] = only_for_us;
    s.cluster.slice("web").endpoints[2].zone_hints = vec!["b"];
    s.cluster.slice("web").endpoints.push(unhinted);
    s.sync()?;
    // No ready endpoint is meant for zone a, and the one without a hint is not ready.
    s.reaches(s.pod(3), s.web_address(), &["remote-1", "remote-2"], AsItself)?;
    Ok(())
}

fn node_hints_keep_traffic_on_the_node(s: &mut Subject) -> Result<()> {
    let web = s.web();
    let slice =
        s.slice_of("web", [s.endpoint("pod-1").for_node("node"), s.endpoint("remote-1").for_node("peer")]);
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    // The last local one goes: any other is better than none.
    s.cluster.slice("web").endpoints.remove(0);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["remote-1"], AsItself)?;
    Ok(())
}

fn node_hints_give_way_to_zone_hints(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("a"));
    let web = s.web();
    let slice = s.slice_of(
        "web",
        [
            s.endpoint("remote-1").for_node("peer").for_zone("a"),
            s.endpoint("remote-2").for_node("peer").for_zone("b"),
        ],
    );
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["remote-1"], AsItself)?;
    Ok(())
}

fn hints_do_not_matter_under_local(s: &mut Subject) -> Result<()> {
    in_zone(s, Some("b"));
    hinted(s)?;
    let web = s.web().node_port(30080).external_local();
    s.cluster.put(web);
    s.sync()?;
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], AsItself)?;
    // Pods and the node take the way of policy Cluster, hints and all.
    s.reaches(s.pod(3), (s.family().node(), 30080), &["remote-1", "remote-2"], AsItself)?;
    s.reaches(s.node(), (s.family().node(), 30080), &["remote-1", "remote-2"], Masqueraded)?;
    Ok(())
}
