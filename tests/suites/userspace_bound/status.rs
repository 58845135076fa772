//! What `pointsman status` says.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Result, ensure};
use testbed::{Family, Protocol, http, scenarios};

use crate::subject::Subject;

scenarios![Subject:
    it_shows_where_services_are,
    it_shows_what_endpoints_did,
    nobody_who_answers_is_one_helpful_line,
    the_socket_is_the_users_alone,
    a_dead_processes_socket_is_replaced,
    a_live_processes_socket_is_left_alone,
    what_is_carried_is_among_the_metrics,
];

/// What it says to the user, which must be no error.
fn said(s: &Subject, args: &[&str]) -> Result<String> {
    let output = s.ask(args)?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A line of a text that has all of these words.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| {
        let line: Vec<_> = line.split_whitespace().collect();
        words.iter().all(|word| line.contains(word))
    })
}

fn it_shows_where_services_are(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[1, 2]);
    s.put("none", 2, Protocol::Tcp, 80, &[]);
    s.sync()?;
    let text = said(s, &["status"])?;
    let endpoints = [1, 2].map(|pod| format!("{}:8080", s.bed.pod(pod).ip(Family::V4)));
    let first = format!("{},", endpoints[0]);
    for words in [
        &["mode", "userspace"][..],
        &["node"],
        &["service", "ports", "4"],
        &["last", "error", "none"],
        &["test/db:main", "tcp", "127.0.0.1:5432", "0", &first, &endpoints[1]],
        &["test/db:main", "tcp", "[::1]:5432"],
    ] {
        ensure!(has_line(&text, words), "no line with {words:?} in\n{text}");
    }
    ensure!(!text.contains("test/none") && !text.contains('\u{1b}'), "{text}");
    let yaml = said(s, &["status", "-o", "yaml"])?;
    ensure!(yaml.lines().any(|line| line == "mode: userspace"), "{yaml}");
    Ok(())
}

fn it_shows_what_endpoints_did(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    // Nobody listens at this address of the node.
    let nobody = testbed::cluster::Endpoint {
        address: Family::V4.second_node_address().to_string(),
        ..testbed::cluster::Endpoint::default()
    };
    s.cluster.slice("db-ipv4").endpoints.push(nobody);
    s.sync()?;
    s.connect(Protocol::Tcp, (Family::V4.loopback(), 5432).into(), 4)?;
    let text = said(s, &["status", "-o", "wide"])?;
    let pod = format!("{}:8080", s.bed.pod(1).ip(Family::V4));
    ensure!(has_line(&text, &["test/db:main", "127.0.0.1:5432", &pod, "4"]), "{text}");
    let nobody = format!("{}:8080", Family::V4.second_node_address());
    ensure!(has_line(&text, &[&nobody, "1", "for", "s"]), "it is not set aside:\n{text}");
    Ok(())
}

fn nobody_who_answers_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    let output = s.ask(&["status"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.lines().count() == 1, "{said}");
    ensure!(said.contains("no pointsman answers at") && said.contains("--socket"), "{said}");
    Ok(())
}

fn the_socket_is_the_users_alone(s: &mut Subject) -> Result<()> {
    s.sync()?;
    let socket = s.file("run/pointsman.sock");
    ensure!(fs::metadata(&socket)?.permissions().mode() & 0o777 == 0o600);
    s.proxy()?.terminate()?;
    ensure!(!socket.exists(), "it goes with the process");
    Ok(())
}

fn a_dead_processes_socket_is_replaced(s: &mut Subject) -> Result<()> {
    s.sync()?;
    let socket = s.file("run/pointsman.sock");
    let before = fs::metadata(&socket)?.ino();
    s.restart(|_| {})?;
    ensure!(fs::metadata(&socket)?.ino() != before);
    ensure!(s.status()?["mode"] == "userspace");
    Ok(())
}

fn a_live_processes_socket_is_left_alone(s: &mut Subject) -> Result<()> {
    s.sync()?;
    let process = s.status()?["process"].clone();
    let another = s.another(&["--healthz-bind-address=", "--metrics-bind-address="])?;
    let line = another.await_line_with("another pointsman answers")?;
    ensure!(line.contains("WARN") && line.contains("--socket"), "{line}");
    another.await_syncs(1)?;
    ensure!(s.status()?["process"] == process, "the first one answers");
    Ok(())
}

fn what_is_carried_is_among_the_metrics(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.put("dns", 2, Protocol::Udp, 5353, &[1]);
    s.sync()?;
    let metric = |name: &str| {
        http::metric(&s.bed.node, ([127, 0, 0, 1], 10249).into(), &format!("pointsman_userspace_{name}"))
    };
    ensure!(metric("connections_total")? == 0.0 && metric("targets")? == 4.0);
    s.connect(Protocol::Tcp, (Family::V4.loopback(), 5432).into(), 5)?;
    s.connect(Protocol::Udp, (Family::V6.loopback(), 5353).into(), 3)?;
    ensure!(metric("connections_total")? == 5.0 && metric("sessions_total")? == 3.0);
    ensure!(metric(r#"bytes_total{direction="out"}"#)? > 0.0);
    Ok(())
}
