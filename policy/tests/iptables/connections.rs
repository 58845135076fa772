//! What becomes of connections under way.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use policy::{Enforcer, Established, Settings};
use serde_json::{Value, json};
use testbed::Outcome;

use crate::Scenario;
use crate::field::{Field, SetUp};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("what_is_forbidden_is_cut_and_nothing_else", SetUp::default, cut),
    ("what_only_the_server_speaks_on_is_cut", SetUp::default, server_speaks),
    ("what_is_forbidden_may_drain", draining, drain),
    ("what_was_allowed_may_go_on", keeping, keep),
    ("generations_begin_again", few_marks, begin_again),
];

const LONG: Duration = Duration::from_secs(3600);

fn with(settings: Settings) -> SetUp {
    SetUp { settings, ..SetUp::default() }
}

fn draining() -> SetUp {
    with(Settings { established: Established::Drain(LONG), ..Settings::default() })
}

fn keeping() -> SetUp {
    with(Settings { established: Established::Keep, ..Settings::default() })
}

fn few_marks() -> SetUp {
    with(Settings { mark_mask: 0x00f0_0000, ..Settings::default() })
}

/// Pods with a label may be reached only by those with the same.
fn only_by(app: &str) -> Value {
    let select = json!({ "matchLabels": { "app": app } });
    json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": [{ "podSelector": select }] }] })
}

fn cut(field: &mut Field) -> Result<()> {
    let mut allowed = field.from("pod-2").open(field.at("pod-1"))?;
    let mut forbidden = field.from("pod-3").open(field.at("pod-1"))?;
    let flow = field.from("pod-3").flow(field.at("pod-1"))?;
    let (mut before, mut after) = server_pair(field, "pod-2", "pod-1")?;
    ensure!(matches!(flow.ask()?, Outcome::Answered { .. }));
    let report = field.policy("in", &only_by("db"))?;
    ensure!(report.judged_anew, "{report:?}");
    allowed.echo()?;
    // Though the first to speak is the server.
    after.write_all(b"x")?;
    before.read_exact(&mut [0])?;
    ensure!(forbidden.echo().is_err(), "it goes on");
    ensure!(flow.ask()? == Outcome::Refused, "it goes on");
    // What allows more has nobody judged anew.
    let report = field.policy("more", &only_by("web"))?;
    ensure!(!report.judged_anew, "{report:?}");
    allowed.echo()?;
    // What nobody allows any longer, by a change of a label.
    field.pod("pod-2", "default", "none")?;
    ensure!(field.sync()?.judged_anew);
    ensure!(allowed.echo().is_err(), "it goes on");
    Ok(())
}

/// Both ends of a connection: the client's and the server's.
fn server_pair(field: &Field, from: &str, to: &str) -> Result<(TcpStream, TcpStream)> {
    let address = SocketAddr::from((field.ip(to), 7070));
    let listener = field.from(to).namespace.run(|| TcpListener::bind(address))??;
    let client = field.from(from).namespace.run(|| TcpStream::connect(address))??;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    }
    Ok((client, server))
}

fn server_speaks(field: &mut Field) -> Result<()> {
    let (_client, mut server) = server_pair(field, "pod-3", "pod-1")?;
    server.write_all(b"before")?;
    field.policy("in", &only_by("db"))?;
    server.write_all(b"after")?;
    let heard = server.read(&mut [0]);
    ensure!(heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{heard:?}");
    Ok(())
}

fn drain(field: &mut Field) -> Result<()> {
    let mut forbidden = field.from("pod-3").open(field.at("pod-1"))?;
    let mut allowed = field.from("pod-2").open(field.at("pod-1"))?;
    let began = Instant::now();
    field.policy("in", &only_by("db"))?;
    forbidden.echo()?;
    field.check(&["pod-3 x pod-1", "pod-2 > pod-1"])?;
    // Another such change does not make it longer.
    field.policy("in", &only_by("nobody"))?;
    forbidden.echo()?;
    let due = field.enforcer.due().context("nothing drains")?;
    ensure!(due >= began + LONG && due <= Instant::now() + LONG, "it drains until {due:?}");
    let tidy = |field: &mut Field, now| -> Result<_> {
        let enforcer = &mut field.enforcer;
        Ok(field.bed.node.run(|| enforcer.tidy(now))??)
    };
    let report = tidy(field, due - Duration::from_secs(1))?;
    ensure!(!report.judged_anew, "{report:?}");
    forbidden.echo()?;
    let report = tidy(field, due)?;
    ensure!(report.judged_anew, "{report:?}");
    ensure!(forbidden.echo().is_err(), "it goes on");
    let last = field.enforcer.due().context("the second change drains no longer")?;
    ensure!(last > due);
    tidy(field, last)?;
    ensure!(allowed.echo().is_err(), "it goes on");
    Ok(())
}

fn keep(field: &mut Field) -> Result<()> {
    let mut forbidden = field.from("pod-3").open(field.at("pod-1"))?;
    let report = field.policy("in", &only_by("db"))?;
    ensure!(!report.judged_anew && field.enforcer.due().is_none(), "{report:?}");
    forbidden.echo()?;
    field.check(&["pod-3 x pod-1"])?;
    // The next process may be of another mind.
    field.restart(Settings::default())?;
    field.policy("in", &only_by("nobody"))?;
    ensure!(forbidden.echo().is_err(), "it goes on");
    Ok(())
}

/// Fifteen generations fit the mask.
fn begin_again(field: &mut Field) -> Result<()> {
    let mut forbidden = field.from("pod-3").open(field.at("pod-1"))?;
    let mut allowed = field.from("pod-2").open(field.at("pod-1"))?;
    field.policy("in", &only_by("db"))?;
    for number in 2..=15 {
        let report = field.policy(
            "other",
            &json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "ports": [{ "port": number }] }] }),
        )?;
        ensure!(report.judged_anew, "{report:?}");
    }
    let forward = field.tool().chain("filter", "KUBE-POLICY-FORWARD")?;
    ensure!(forward[0].contains("--mark 0x100000/0xf00000"), "{forward:#?}");
    ensure!(forbidden.echo().is_err(), "its mark of old is taken for a new one");
    allowed.echo()
}
