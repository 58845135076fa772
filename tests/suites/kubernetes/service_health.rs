//! What load balancers are answered on a `healthCheckNodePort`.

use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::{Endpoint, Service};
use testbed::http::{Answer, ask};
use testbed::{Outcome, Place, Protocol, await_that, under_traffic};

use crate::subject::{PATIENCE, Subject};

const PORT: u16 = 32000;

/// Service `web` with a load balancer that asks on a port.
fn put_balanced(subject: &mut Subject, port: u16, endpoints: &[Endpoint]) {
    let family = subject.family;
    let service = Service::new("web", family.cluster_ip(10)).tcp("http", 80);
    let service = service.load_balancer_ip(family.load_balancer_ip(1)).external_local();
    subject.cluster.put(service.health_check_node_port(port));
    subject.put_endpoints("web", &[]);
    subject.cluster.slice("web").endpoints = endpoints.to_vec();
}

/// A pod of this node, ready.
fn ready(subject: &Subject, pod: u8) -> Endpoint {
    Endpoint::of(subject.bed.pod(pod), subject.family)
}

fn outside(subject: &Subject) -> Place<'_> {
    Place::of(&subject.bed.client).from_address(subject.family.client())
}

fn frontend(subject: &Subject) -> SocketAddr {
    (subject.family.load_balancer_ip(1), 80).into()
}

fn check(subject: &Subject, address: IpAddr, port: u16) -> Result<Answer> {
    ask(&subject.bed.client, (address, port).into(), "/any/path")
}

/// Load balancers come to be told of so many endpoints on a port.
fn await_endpoints(subject: &Subject, port: u16, count: usize) -> Result<()> {
    let weight = count.to_string();
    await_that(&format!("port {port} tells of {count} endpoints"), || {
        let answer = check(subject, subject.family.node(), port);
        Ok(answer.is_ok_and(|answer| answer.header("x-load-balancing-endpoint-weight") == Some(&*weight)))
    })?;
    let answer = check(subject, subject.family.node(), port)?;
    let expected = if count > 0 { 200 } else { 503 };
    let headers = ["content-type", "x-content-type-options"].map(|name| answer.header(name));
    ensure!(headers == [Some("application/json"), Some("nosniff")], "{answer:?}");
    ensure!(answer.status == expected, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body)?;
    ensure!(body["localEndpoints"] == count && body["serviceProxyHealthy"] == true, "{body}");
    ensure!(body["service"]["namespace"] == "test" && body["service"]["name"] == "web", "{body}");
    Ok(())
}

/// Nobody comes to answer on a port any longer.
fn await_closed(subject: &Subject, port: u16) -> Result<()> {
    await_that(&format!("port {port} is closed"), || {
        let answer = check(subject, subject.family.node(), port);
        Ok(answer.is_err_and(|error| format!("{error:#}").contains("Connection refused")))
    })
}

pub(crate) fn a_load_balancer_learns_how_many_endpoints_are_here(subject: &mut Subject) -> Result<()> {
    subject.args.extend(["--nodeport-addresses", "primary"].map(str::to_owned));
    let remote = Endpoint::of(subject.bed.remote_pod(1), subject.family);
    put_balanced(subject, PORT, std::slice::from_ref(&remote));
    subject.publish()?;
    subject.start()?;
    await_endpoints(subject, PORT, 0)?;
    let other = check(subject, subject.family.second_node_address(), PORT);
    ensure!(other.is_err(), "node ports do not answer on that address: {other:?}");
    put_balanced(subject, PORT, &[remote.clone(), ready(subject, 1)]);
    subject.publish()?;
    await_endpoints(subject, PORT, 1)?;
    put_balanced(subject, PORT, &[remote, ready(subject, 1), ready(subject, 2)]);
    subject.publish()?;
    await_endpoints(subject, PORT, 2)?;
    let two = [ready(subject, 1), ready(subject, 2)];
    put_balanced(subject, PORT + 1, &two);
    subject.publish()?;
    await_endpoints(subject, PORT + 1, 2)?;
    await_closed(subject, PORT)?;
    subject.remove("web");
    subject.publish()?;
    await_closed(subject, PORT + 1)
}

/// One pod after the other; the load balancer asks after each step, and leaves when it is told to.
pub(crate) fn a_rolling_update_drained_by_health_checks_fails_no_connection(
    subject: &mut Subject,
) -> Result<()> {
    let [old, new] = [ready(subject, 1), ready(subject, 2)];
    put_balanced(subject, PORT, std::slice::from_ref(&old));
    subject.publish()?;
    subject.start()?;
    await_endpoints(subject, PORT, 1)?;
    let steps = [
        (vec![old.clone(), new.clone()], 2),
        (vec![old.terminating(), new.clone()], 1),
        (vec![new.clone()], 1),
        // The last one here goes: the balancer is told, and served until it has gone.
        (vec![new.terminating()], 0),
    ];
    let steps = steps.map(|(endpoints, count)| {
        put_balanced(subject, PORT, &endpoints);
        (subject.cluster.manifest(), count)
    });
    let (subject, to) = (&*subject, frontend(subject));
    under_traffic(outside(subject), to, || {
        for (manifest, count) in steps {
            subject.server.hold(&manifest)?;
            await_endpoints(subject, PORT, count)?;
        }
        Ok(())
    })
}

pub(crate) fn a_taken_health_check_port_is_told_of_and_mended(subject: &mut Subject) -> Result<()> {
    let taken = subject.bed.node.run(|| TcpListener::bind(("::", PORT)))??;
    let endpoints = [ready(subject, 1)];
    put_balanced(subject, PORT, &endpoints);
    subject.publish()?;
    subject.start()?;
    let event = subject.server.await_event("FailedToStartServiceHealthcheck", PATIENCE)?;
    ensure!(event["type"] == "Warning" && event["regarding"]["name"] == "web", "{event}");
    let note = event["note"].as_str().context("no note")?;
    ensure!(note.contains("healthCheckNodePort 32000"), "{note}");
    let outcome = outside(subject).connect(Protocol::Tcp, frontend(subject))?;
    ensure!(matches!(outcome, Outcome::Answered { .. }), "traffic does not depend on it: {outcome}");
    drop(taken);
    await_endpoints(subject, PORT, 1)
}
