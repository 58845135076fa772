//! What the command line changes.

use std::time::Duration;

use anyhow::Result;
use testbed::cluster::node;
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Family, Outcome, Protocol, Subject};

testbed::scenarios![
    Subject:
    masquerade_all_masquerades_pods,
    without_a_way_to_tell_pods_cluster_ips_are_not_masqueraded,
    without_a_way_to_tell_pods_external_local_takes_them_for_outsiders,
    pods_are_told_by_the_node_s_ranges,
    pods_are_told_by_their_bridge,
    pods_are_told_by_the_prefix_of_their_interface,
    node_ports_answer_within_ranges_only,
    primary_is_the_bind_address_where_there_is_one,
    the_masquerade_bit_may_be_another,
    one_family_may_lack_a_cluster_cidr,
];

/// How long the kernel may take to make an address usable.
const PATIENCE: Duration = Duration::from_secs(60);

fn masquerade_all_masquerades_pods(s: &mut Subject) -> Result<()> {
    s.args(&["--masquerade-all"]);
    let web = s.web().node_port(30080).external_local();
    s.cluster.put(web);
    let slice = s.slice("web", &["pod-1", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    // It is about ClusterIPs only.
    s.reaches(s.client(), (s.family().node(), 30080), &["pod-1"], AsItself)?;
    Ok(())
}

fn without_a_way_to_tell_pods_cluster_ips_are_not_masqueraded(s: &mut Subject) -> Result<()> {
    s.only_args(&[]);
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    s.reaches(s.pod(1), s.web_address(), &["pod-1", "remote-1"], AsItself)
        .map_or(Ok(()), |_| anyhow::bail!("a pod that reaches itself must be masqueraded all the same"))
}

fn without_a_way_to_tell_pods_external_local_takes_them_for_outsiders(s: &mut Subject) -> Result<()> {
    s.only_args(&[]);
    let web = s.web().node_port(30080).external_local();
    s.serve(web, &["pod-1", "remote-1"])?;
    let node_port = (s.family().node(), 30080);
    s.reaches(s.pod(3), node_port, &["pod-1"], AsItself)?;
    s.reaches(s.node(), node_port, &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn check_detection(s: &Subject) -> Result<()> {
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    s.reaches(s.node(), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn pods_are_told_by_the_node_s_ranges(s: &mut Subject) -> Result<()> {
    s.only_args(&["--detect-local-mode", "NodeCIDR"]);
    let ranges = ["10.180.0.0/24", "fd00:10:180::/64"];
    s.cluster.put_other("node", node(None, &Family::BOTH.map(Family::node), &ranges));
    s.serve_web(&["pod-1", "remote-1"])?;
    check_detection(s)?;
    // The ranges may change while the proxy runs.
    s.cluster
        .put_other("node", node(None, &Family::BOTH.map(Family::node), &["10.99.0.0/24", "fd00:99::/64"]));
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn pods_are_told_by_their_bridge(s: &mut Subject) -> Result<()> {
    s.use_bridge()?;
    s.only_args(&["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"]);
    s.serve_web(&["pod-1", "remote-1"])?;
    check_detection(s)
}

fn pods_are_told_by_the_prefix_of_their_interface(s: &mut Subject) -> Result<()> {
    s.only_args(&["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "pod-"]);
    s.serve_web(&["pod-1", "remote-1"])?;
    check_detection(s)
}

fn node_ports_answer_within_ranges_only(s: &mut Subject) -> Result<()> {
    s.args(&["--nodeport-addresses", "192.168.1.0/24,fd00:192:168:1::/64"]);
    s.cluster.put_other("node", node(None, &Family::BOTH.map(Family::node), &[]));
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    s.reaches(s.client(), (s.family().second_node_address(), 30080), &["pod-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().node(), 30080))?;
    // An address within the ranges that the node gets later answers at once.
    let late = match s.family() {
        Family::V4 => "192.168.1.77",
        Family::V6 => "fd00:192:168:1::77",
    };
    s.bed.node.ip(&format!("addr add {late} dev eth0 nodad\n"))?;
    let to = (late.parse::<std::net::IpAddr>()?, 30080);
    // The kernel goes on with an IPv6 address after `ip` has ended.
    let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. });
    s.client().place.connect_until(Protocol::Tcp, to.into(), PATIENCE, answered)?;
    s.reaches(s.client(), to, &["pod-1"], Masqueraded)?;
    Ok(())
}

fn primary_is_the_bind_address_where_there_is_one(s: &mut Subject) -> Result<()> {
    let bind = s.family().second_node_address().to_string();
    s.args(&["--nodeport-addresses", "primary", "--bind-address", &bind]);
    s.cluster.put_other("node", node(None, &Family::BOTH.map(Family::node), &[]));
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    s.reaches(s.client(), (s.family().second_node_address(), 30080), &["pod-1"], Masqueraded)?;
    s.refused(s.client(), (s.family().node(), 30080))
}

fn the_masquerade_bit_may_be_another(s: &mut Subject) -> Result<()> {
    s.args(&["--iptables-masquerade-bit", "31"]);
    s.serve_web(&["pod-1", "remote-1"])?;
    check_detection(s)
}

fn one_family_may_lack_a_cluster_cidr(s: &mut Subject) -> Result<()> {
    s.only_args(&["--cluster-cidr", s.family().cluster_cidr()]);
    s.serve_web(&["pod-1", "remote-1"])?;
    check_detection(s)
}
