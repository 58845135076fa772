//! A cluster's API server instead of a folder: what is served, and what users are told.

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::api_server::Options;
use testbed::cluster::Service;
use testbed::{ApiServer, Family, Protocol, http, scenarios};

use crate::subject::{PATIENCE, Subject};

scenarios![Subject:
    services_of_a_cluster_are_reached,
    an_sctp_port_is_told_of_by_an_event,
    an_event_that_cannot_be_posted_disturbs_nothing,
];

fn server(s: &Subject) -> Result<ApiServer> {
    let server = s.bed.node.run(|| ApiServer::start(Options::default()))??;
    server.hold(&s.cluster.manifest())?;
    Ok(server)
}

fn services_of_a_cluster_are_reached(s: &mut Subject) -> Result<()> {
    s.put("web", 1, Protocol::Tcp, 8080, &[1, 2]);
    let server = server(s)?;
    s.start_with_api(&server)?;
    s.check_leads_to("web", Protocol::Tcp, &[1, 2])?;
    s.put("dns", 2, Protocol::Udp, 5353, &[3]);
    let cluster = s.cluster.manifest();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    s.check_leads_to("dns", Protocol::Udp, &[3])?;
    ensure!(server.events().is_empty(), "{:?}", server.events());
    Ok(())
}

/// A Service with ports of SCTP.
fn put_sctp(s: &mut Subject, name: &str, number: u8, ports: &[u16]) {
    let service = Service::new(name, Family::V4.cluster_ip(number)).tcp("tcp", 80);
    let service = ports.iter().fold(service, |service, port| service.sctp(&format!("p-{port}"), *port));
    s.cluster.put(service);
}

fn an_sctp_port_is_told_of_by_an_event(s: &mut Subject) -> Result<()> {
    put_sctp(s, "hss", 9, &[3868, 3869]);
    let server = server(s)?;
    s.start_with_api(&server)?;
    let line = s.proxy()?.await_line_with("SCTP port 3868 (p-3868) is not forwarded")?;
    ensure!(line.contains("WARN") && line.contains("test/hss"), "{line}");
    let events = server.await_events(1, PATIENCE)?;
    check_event(&events[0], "hss")?;
    let uid = &events[0]["regarding"]["uid"];
    ensure!(uid.as_str().is_some_and(|uid| !uid.is_empty()), "{uid}");
    // Its second port is no second event, nor is a restart of the watch; another Service is one.
    put_sctp(s, "other", 10, &[3868]);
    let cluster = s.cluster.manifest();
    server.expire_watches();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    let events = server.await_events(2, PATIENCE)?;
    check_event(&events[1], "other")?;
    s.cluster.delete("hss");
    let cluster = s.cluster.manifest();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    put_sctp(s, "hss", 9, &[3868, 3869]);
    let cluster = s.cluster.manifest();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    let events = server.await_events(3, PATIENCE)?;
    check_event(&events[2], "hss")?;
    ensure!(events[2]["regarding"]["uid"] != *uid, "it is another Service of that name");
    Ok(())
}

fn an_event_that_cannot_be_posted_disturbs_nothing(s: &mut Subject) -> Result<()> {
    s.put("web", 1, Protocol::Tcp, 8080, &[1]);
    let server = server(s)?;
    s.start_with_api(&server)?;
    server.await_watches(4, PATIENCE)?;
    server.refuse_events(true);
    put_sctp(s, "hss", 9, &[3868]);
    let cluster = s.cluster.manifest();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    let line = s.proxy()?.await_line_with("cannot post an event")?;
    ensure!(line.contains("DEBUG") && line.contains("test/hss") && line.contains("403"), "{line}");
    s.check_leads_to("web", Protocol::Tcp, &[1])?;
    let (status, health) = http::get(&s.bed.node, ([127, 0, 0, 1], 10256).into(), "/healthz")?;
    ensure!(status == 200, "{health}");
    server.refuse_events(false);
    put_sctp(s, "other", 10, &[3868]);
    let cluster = s.cluster.manifest();
    s.proxy()?.await_sync_after(|| server.hold(&cluster))?;
    check_event(&server.await_events(1, PATIENCE)?[0], "other")
}

fn check_event(event: &Value, service: &str) -> Result<()> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    for (path, expected) in [
        ("/type", "Warning"),
        ("/reason", "SCTPNotForwarded"),
        ("/reportingController", "pointsman"),
        ("/reportingInstance", "pointsman-node"),
        ("/regarding/kind", "Service"),
        ("/regarding/namespace", "test"),
        ("/regarding/name", service),
    ] {
        ensure!(text(path) == expected, "{path} is not {expected}: {event}");
    }
    ensure!(text("/note").contains("TCP and UDP only"), "{event}");
    Ok(())
}
