//! Whatever can be wrong with a server.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt;
use serde_json::Value;
use testbed::api_server::{Fault, Options};

use super::client::{PATIENCE, QUIET, SERVICES, delete, names, service, start, start_with, version};

pub(super) fn cut_is_no_clean_end() -> Result<()> {
    let (server, client) = start()?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    server.cut_connections();
    ensure!(server.watches() == 0, "{} watches are open", server.watches());
    watch.expect_break()?;
    ensure!(names(&client.list("")?) == ["a"], "gone after a cut");
    Ok(())
}

pub(super) fn down_and_back() -> Result<()> {
    let (server, client) = start()?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    server.set_fault(Some(Fault::Down));
    watch.expect_break()?;
    let error = client.get(SERVICES).err().context("an answer from a server that is down")?;
    ensure!(format!("{error:#}").contains("refused"), "{error:#}");
    let last = delete(&server, "a")?;
    server.set_fault(None);
    client.watch(&format!("watch=1&resourceVersion={at}"))?.expect("DELETED", "a", last)?;
    Ok(())
}

pub(super) fn hanging() -> Result<()> {
    let (server, client) =
        start_with(Options { bookmark_interval: Duration::from_millis(20), ..Options::default() })?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}&allowWatchBookmarks=true"))?;
    watch.expect("BOOKMARK", "", at)?;
    server.set_fault(Some(Fault::Hang));
    ensure!(client.ask("GET", SERVICES, QUIET).is_err(), "an answer from a server that hangs");
    let last = delete(&server, "a")?;
    // What was on its way may come.
    while let Ok(Some(line)) = watch.line(QUIET) {
        let event: Value = serde_json::from_slice(&line)?;
        ensure!(event["type"] == "BOOKMARK" && version(&event["object"])? == at, "{event} while it hangs");
    }
    ensure!(server.watches() == 1, "{} watches are open", server.watches());
    server.set_fault(None);
    loop {
        let event = watch.event()?;
        match event["type"].as_str() {
            Some("BOOKMARK") if version(&event["object"])? == at => {}
            Some("DELETED") if version(&event["object"])? == last => return Ok(()),
            _ => bail!("{event} after it hung"),
        }
    }
}

pub(super) fn slow_drip() -> Result<()> {
    let (server, client) = start()?;
    server.load((0..20).map(|place| service(&format!("s{place}"), "x")).collect())?;
    server.set_fault(Some(Fault::SlowDrip { bytes: 200, every: Duration::from_secs(3600) }));
    let mut body = client.wait(PATIENCE, async { Ok(client.send("GET", SERVICES).await?.into_body()) })?;
    let slow = client.wait(QUIET, async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    });
    ensure!(slow.is_err(), "all came at once");
    server.set_fault(Some(Fault::SlowDrip { bytes: 64, every: Duration::from_millis(1) }));
    ensure!(names(&client.list("")?).len() == 20, "a drip that loses something");
    server.set_fault(None);
    client.wait(PATIENCE, async { Ok(body.collect().await?) })?;
    Ok(())
}

pub(super) fn garbage() -> Result<()> {
    let (server, client) = start()?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    server.set_fault(Some(Fault::Garbage));
    let error = watch.event().err().context("an event instead of garbage")?;
    ensure!(error.to_string().contains("no JSON"), "{error:#}");
    let answer = client.get(SERVICES)?;
    ensure!(answer.code == 200 && answer.body.is_string(), "{} {}", answer.code, answer.body);
    let mut new = client.watch("watch=1")?;
    ensure!(new.event().is_err(), "an event instead of garbage");
    server.set_fault(None);
    let last = delete(&server, "a")?;
    ensure!(names(&client.list("")?).is_empty(), "still garbage");
    watch.expect("DELETED", "a", last)?;
    Ok(())
}

pub(super) fn truncated() -> Result<()> {
    let (server, client) = start()?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    server.set_fault(Some(Fault::Truncated));
    watch.expect_break()?;
    let rest = String::from_utf8_lossy(&watch.read).into_owned();
    ensure!(rest.starts_with("{\"type\":") && !rest.contains('\n'), "{rest:?} is no half of a line");
    let mut list = client.watch("")?;
    list.expect_break()?;
    let rest = String::from_utf8_lossy(&list.read).into_owned();
    ensure!(
        rest.starts_with("{\"kind\":\"ServiceList\"") && !rest.contains("]}"),
        "{rest:?} is no half of a list"
    );
    client.watch("watch=1")?.expect_break()?;
    server.set_fault(None);
    ensure!(names(&client.list("")?) == ["a"], "still truncated");
    Ok(())
}

pub(super) fn wrong_certificate() -> Result<()> {
    let (server, client) = start()?;
    let mut watch = client.watch("watch=1")?;
    server.set_fault(Some(Fault::WrongCertificate));
    watch.expect_break()?;
    let error = client.get(SERVICES).err().context("a wrong certificate was trusted")?;
    ensure!(format!("{error:#}").contains("certificate"), "{error:#}");
    server.set_fault(None);
    client.list("")?;
    Ok(())
}

pub(super) fn refusals() -> Result<()> {
    let (server, client) = start()?;
    let mut watch = client.watch("watch=1")?;
    server.set_fault(Some(Fault::TooManyRequests));
    let answer = client.get(SERVICES)?;
    ensure!(
        answer.code == 429 && answer.headers["retry-after"] == "1",
        "{} {:?}",
        answer.code,
        answer.headers
    );
    server.set_fault(Some(Fault::InternalError));
    client.refused(SERVICES, 500, "InternalError")?;
    watch.expect("ADDED", "a", server.put(service("a", "x"))?)?;
    server.set_fault(None);
    client.list("")?;
    Ok(())
}
