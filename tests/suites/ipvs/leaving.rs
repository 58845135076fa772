//! Endpoints and virtual servers that go, while there are connections.

use anyhow::{Result, ensure};
use testbed::cluster::Service;
use testbed::{Subject, await_that};

use crate::{at, servers};

testbed::scenarios![
    Subject:
    an_endpoint_stays_for_its_connections_and_gets_no_more,
    an_endpoint_that_comes_back_is_used_again,
    an_endpoint_without_connections_is_gone_soon,
    a_service_stays_for_its_connections_and_refuses_others,
    a_deleted_service_comes_back_with_its_connections,
    a_restart_goes_on_waiting,
];

/// The weight that `web` gives a pod, if it knows it.
fn weight(s: &Subject, pod: &str) -> Result<Option<String>> {
    let endpoint = s.endpoint(pod);
    let begin = format!(
        "-a -t {} -r {} ",
        at(s.family().cluster_ip(10), 80),
        at(endpoint.address.parse()?, testbed::POD_PORT)
    );
    let servers = servers(s)?;
    let line = servers.lines().find_map(|line| line.strip_prefix(&begin));
    Ok(line.and_then(|rest| rest.split("-w ").nth(1)).map(str::to_owned))
}

fn has_weight(s: &Subject, pod: &str, expected: Option<&str>) -> Result<()> {
    let found = weight(s, pod)?;
    ensure!(found.as_deref() == expected, "{pod} has weight {found:?}, not {expected:?}");
    Ok(())
}

fn has_web(s: &Subject) -> Result<bool> {
    Ok(servers(s)?.contains(&format!("-A -t {} ", at(s.family().cluster_ip(10), 80))))
}

fn an_endpoint_stays_for_its_connections_and_gets_no_more(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    s.serve_web(&["pod-2"])?;
    has_weight(s, "pod-1", Some("0"))?;
    s.await_reaches(s.web_address(), &["pod-2"])?;
    conversation.echo()?;
    // What is tidied once in a while takes none of that away.
    s.proxy()?.await_quiet()?;
    conversation.echo()?;
    has_weight(s, "pod-1", Some("0"))
}

fn an_endpoint_that_comes_back_is_used_again(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    let first = s.pod(3).place.open(s.web_address())?;
    let second = s.pod(3).place.open(s.web_address())?;
    s.serve_web(&["pod-2"])?;
    has_weight(s, "pod-1", Some("0"))?;
    s.serve_web(&["pod-1", "pod-2"])?;
    has_weight(s, "pod-1", Some("1"))?;
    s.await_reaches(s.web_address(), &["pod-1", "pod-2"])?;
    for mut conversation in [first, second] {
        conversation.echo()?;
    }
    Ok(())
}

fn an_endpoint_without_connections_is_gone_soon(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    s.serve_web(&["pod-2"])?;
    await_that("pod-1 is forgotten", || Ok(weight(s, "pod-1")?.is_none()))?;
    has_weight(s, "pod-2", Some("1"))
}

fn a_service_stays_for_its_connections_and_refuses_others(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut inside = s.pod(3).place.open(s.web_address())?;
    let mut outside = s.client().place.open(s.web_address())?;
    // Another service goes without, at once.
    let slice = s.slice("shop", &["pod-1"]);
    s.cluster.put(Service::new("shop", s.family().cluster_ip(11)).tcp("http", 80)).put_slice(slice);
    s.sync()?;
    s.cluster.delete("web").delete("shop");
    s.sync()?;
    let listed = servers(s)?;
    ensure!(!listed.contains(&at(s.family().cluster_ip(11), 80)), "an idle service lingers: {listed}");
    has_weight(s, "pod-1", Some("0"))?;
    s.refused(s.pod(3), s.web_address())?;
    for conversation in [&mut inside, &mut outside] {
        conversation.echo()?;
    }
    Ok(())
}

fn a_deleted_service_comes_back_with_its_connections(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    s.cluster.delete("web");
    s.sync()?;
    has_weight(s, "pod-1", Some("0"))?;
    s.serve_web(&["pod-1", "pod-2"])?;
    has_weight(s, "pod-1", Some("1"))?;
    s.await_reaches(s.web_address(), &["pod-1", "pod-2"])?;
    conversation.echo()
}

fn a_restart_goes_on_waiting(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut conversation = s.pod(3).place.open(s.web_address())?;
    s.cluster.delete("web");
    s.sync()?;
    for _ in 0..2 {
        s.proxy()?.kill()?;
        s.restart()?;
        conversation.echo()?;
        ensure!(s.last_operations()? == 0, "{} operations", s.last_operations()?);
    }
    conversation.close()?;
    // IPVS remembers a closed connection for two minutes, unless it is told otherwise.
    s.bed.node.output("ipvsadm", &["--set", "0", "1", "0"])?;
    ensure!(has_web(s)?, "the server is gone before its connection is");
    Ok(())
}
