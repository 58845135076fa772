//! What becomes of connections that are under way when policies change.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::{await_that, scenarios};

use crate::scene::Scene;
use crate::talker::Talker;

scenarios! { Scene:
    a_connection_that_is_denied_now_is_cut,
    a_connection_on_which_only_the_server_speaks_is_cut,
    a_udp_flow_that_is_denied_now_is_cut,
    a_connection_that_is_still_allowed_goes_on,
    a_connection_to_a_service_is_cut_too,
    connections_may_drain,
    connections_may_be_kept,
    connections_survive_every_other_change,
}

/// How soon a connection is to be cut.
const SOON: Duration = Duration::from_secs(1);

fn deny() -> Value {
    json!({ "podSelector": { "matchLabels": { "app": "db" } } })
}

fn a_connection_that_is_denied_now_is_cut(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    conversation.echo()?;
    s.policy("default", "deny", deny());
    s.sync()?;
    let begun = Instant::now();
    ensure!(conversation.echo().is_err(), "it goes on");
    ensure!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    s.refuses("pod-1", "pod-2")
}

/// The client would never hear that it is cut: nothing that it could be told with reaches it.
fn a_connection_on_which_only_the_server_speaks_is_cut(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let to = (s.end("pod-2")?.ip, 7070).into();
    let _talker = Talker::start(s.s.bed.pod_namespace(2), to)?;
    let mut stream = s.s.bed.client.run(|| TcpStream::connect(to))??;
    stream.set_read_timeout(Some(SOON / 2))?;
    stream.read_exact(&mut [0; 64])?;
    s.policy("default", "deny", deny());
    s.sync()?;
    let (begun, mut heard) = (Instant::now(), [0; 1024]);
    while matches!(stream.read(&mut heard), Ok(1..)) {
        ensure!(begun.elapsed() < SOON, "it goes on");
    }
    Ok(())
}

fn a_udp_flow_that_is_denied_now_is_cut(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let to = (s.end("pod-2")?.ip, testbed::POD_PORT).into();
    let flow = s.place(&s.end("client")?).flow(to)?;
    ensure!(matches!(flow.ask()?, testbed::Outcome::Answered { .. }));
    s.policy("default", "deny", deny());
    s.sync()?;
    let outcome = flow.ask_briefly()?;
    ensure!(!matches!(outcome, testbed::Outcome::Answered { .. }), "{outcome}");
    Ok(())
}

fn a_connection_that_is_still_allowed_goes_on(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    conversation.echo()?;
    let web = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }]);
    s.policy("default", "web", json!({ "podSelector": {}, "ingress": web }));
    s.sync()?;
    s.refuses("client", "pod-2")?;
    conversation.echo()?;
    conversation.close()
}

fn a_connection_to_a_service_is_cut_too(s: &mut Scene) -> Result<()> {
    let (web, slice) = (s.s.web(), s.s.slice("web", &["pod-2"]));
    s.s.cluster.put(web).put_slice(slice);
    s.sync()?;
    let address = s.s.web_address();
    let mut conversation = s.place(&s.end("pod-1")?).open(address)?;
    conversation.echo()?;
    s.policy("default", "deny", deny());
    s.sync()?;
    ensure!(conversation.echo().is_err(), "it goes on");
    Ok(())
}

fn connections_may_drain(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-established=drain", "--policy-drain=2s"]);
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    conversation.echo()?;
    let begun = Instant::now();
    s.policy("default", "deny", deny());
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    conversation.echo()?;
    await_that("the connection is cut", || Ok(conversation.echo().is_err()))?;
    ensure!(begun.elapsed() > Duration::from_secs(2), "it was cut after {:?}", begun.elapsed());
    Ok(())
}

fn connections_may_be_kept(s: &mut Scene) -> Result<()> {
    s.s.args(&["--policy-established=keep"]);
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    conversation.echo()?;
    s.policy("default", "deny", deny());
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    conversation.echo()?;
    conversation.close()
}

/// Changes that have nothing to do with it, a restart and a crash among them, leave a connection alone.
fn connections_survive_every_other_change(s: &mut Scene) -> Result<()> {
    let web = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }]);
    s.policy("default", "web", json!({ "podSelector": {}, "ingress": web }));
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    for number in 0..20 {
        let name = format!("policy-{number}");
        s.policy("other", &name, json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
        s.sync()?;
        conversation.echo()?;
        s.delete_policy("other", &name);
        s.set_label("pod-3", "app", if number % 2 == 0 { "db" } else { "web" });
        s.sync()?;
        conversation.echo()?;
    }
    s.s.proxy()?.kill()?;
    conversation.echo()?;
    s.restart()?;
    conversation.echo()?;
    conversation.close()
}
