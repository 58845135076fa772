//! Watches.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::api_server::Options;
use testbed::cluster;

use super::client::{PATIENCE, SERVICES, STREAMING, delete, names, service, start, start_with, version};

pub(super) fn watch_tells_changes() -> Result<()> {
    let (server, client) = start()?;
    let old = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=true&resourceVersion={old}"))?;
    watch.expect("ADDED", "b", server.put(service("b", "x"))?)?;
    server.put(cluster::service_cidr("kubernetes", &["10.0.0.0/16"]))?;
    let event = watch.expect("MODIFIED", "a", server.put(service("a", "y"))?)?;
    ensure!(event["object"]["metadata"]["labels"]["run"] == "y", "{event}");
    let event = watch.expect("DELETED", "a", delete(&server, "a")?)?;
    ensure!(event["object"]["metadata"]["labels"]["run"] == "y", "{event}");
    server.await_watches(1, PATIENCE)?;
    drop(watch);
    // Lets the client close its connection.
    client.runtime.block_on(tokio::task::yield_now());
    server.await_watches(0, PATIENCE)?;
    let seen = server.requests();
    ensure!(seen == [format!("GET {SERVICES}?watch=true&resourceVersion={old}")], "{seen:?}");
    Ok(())
}

pub(super) fn watch_without_version() -> Result<()> {
    let (server, client) = start()?;
    let (a, b) = (server.put(service("a", "x"))?, server.put(service("b", "x"))?);
    let mut watches = [client.watch("watch=1")?, client.watch("watch=1&resourceVersion=0")?];
    for watch in &mut watches {
        watch.expect("ADDED", "a", a)?;
        watch.expect("ADDED", "b", b)?;
    }
    let c = server.put(service("c", "x"))?;
    watches.iter_mut().try_for_each(|watch| watch.expect("ADDED", "c", c).map(drop))
}

pub(super) fn resuming_is_gapless() -> Result<()> {
    const CHANGES: u64 = 600;
    let (server, client) = start()?;
    let first = server.put(service("first", "x"))?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<BTreeMap<u64, String>> {
            let mut made = BTreeMap::new();
            for round in 0..CHANGES {
                let name = format!("s{}", round % 7);
                let at = match round % 5 {
                    4 => {
                        delete(&server, &name).or_else(|_| server.put(service(&name, &round.to_string())))?
                    }
                    _ => server.put(service(&name, &round.to_string()))?,
                };
                made.insert(at, name);
            }
            Ok(made)
        });
        let (mut at, mut seen) = (first, Vec::new());
        while seen.len() < usize::try_from(CHANGES)? {
            let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
            for _ in 0..7.min(usize::try_from(CHANGES)? - seen.len()) {
                let event = watch.event()?;
                at = version(&event["object"])?;
                seen.push((at, event["object"]["metadata"]["name"].as_str().context("no name")?.to_owned()));
            }
        }
        let made = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(made.len() == seen.len() && made.into_iter().eq(seen), "seen is not what was made");
        Ok(())
    })
}

pub(super) fn selectors_in_watches() -> Result<()> {
    let (server, client) = start()?;
    let before = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={before}&labelSelector=run%3Dx"))?;
    server.put(service("b", "y"))?;
    let event = watch.expect("DELETED", "a", server.put(service("a", "y"))?)?;
    ensure!(
        event["object"]["metadata"]["labels"]["run"] == "x",
        "not as it last was in the selection: {event}"
    );
    server.put(service("a", "z"))?;
    watch.expect("ADDED", "b", server.put(service("b", "x"))?)?;
    delete(&server, "a")?;
    watch.expect("DELETED", "b", delete(&server, "b")?)?;
    Ok(())
}

pub(super) fn what_was_compacted_is_expired() -> Result<()> {
    let (server, client) = start()?;
    server.load((0..10).map(|place| service(&format!("s{place}"), "x")).collect())?;
    let page = client.list("limit=3")?;
    let (old, token) = (version(&page)?, page["metadata"]["continue"].as_str().context("no token")?);
    let mut open = client.watch(&format!("watch=1&resourceVersion={old}"))?;
    let newer = server.put(service("s0", "y"))?;
    client.list(&format!("limit=3&continue={token}"))?;
    server.compact();
    client.refused(&format!("{SERVICES}?limit=3&continue={token}"), 410, "Expired")?;
    client.watch(&format!("watch=1&resourceVersion={old}"))?.expect_error(410, "Expired")?;
    let mut fresh = client.watch(&format!("watch=1&resourceVersion={newer}"))?;
    open.expect("MODIFIED", "s0", newer)?;
    let last = delete(&server, "s0")?;
    open.expect("DELETED", "s0", last)?;
    fresh.expect("DELETED", "s0", last)?;
    Ok(())
}

pub(super) fn a_short_history_expires() -> Result<()> {
    let (server, client) = start_with(Options { history: 3, ..Options::default() })?;
    let versions: Vec<u64> =
        (0..6).map(|round| server.put(service("a", &round.to_string()))).collect::<Result<_>>()?;
    client.watch(&format!("watch=1&resourceVersion={}", versions[1]))?.expect_error(410, "Expired")?;
    client.watch(&format!("watch=1&resourceVersion={}", versions[2]))?.expect(
        "MODIFIED",
        "a",
        versions[3],
    )?;
    Ok(())
}

pub(super) fn open_watches_can_be_expired() -> Result<()> {
    let (server, client) = start()?;
    let at = server.put(service("a", "x"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    server.expire_watches();
    ensure!(server.watches() == 0, "{} watches are open", server.watches());
    watch.expect_error(410, "Expired")?;
    let mut next = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    next.expect("DELETED", "a", delete(&server, "a")?)?;
    ensure!((server.watches(), server.watches_opened()) == (1, 2), "watches are miscounted");
    Ok(())
}

pub(super) fn streaming_list() -> Result<()> {
    let (server, client) = start()?;
    let (a, b) = (server.put(service("a", "x"))?, server.put(service("b", "y"))?);
    let mut watch = client.watch(STREAMING)?;
    watch.expect("ADDED", "a", a)?;
    watch.expect("ADDED", "b", b)?;
    let end = watch.expect("BOOKMARK", "", b)?;
    ensure!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true", "{end}");
    watch.expect("MODIFIED", "a", server.put(service("a", "y"))?)?;
    let mut selected = client.watch(&format!("{STREAMING}&labelSelector=run%3Dz&resourceVersion={b}"))?;
    selected.expect("BOOKMARK", "", b + 1)?;
    selected.expect("ADDED", "b", server.put(service("b", "z"))?)?;
    let mut now = client.watch(&STREAMING.replace("=true&resource", "=false&resource"))?;
    now.expect("DELETED", "a", delete(&server, "a")?)?;
    client.watch(&format!("{STREAMING}&resourceVersion=1000"))?.expect_error(504, "Timeout")
}

pub(super) fn bookmarks() -> Result<()> {
    let (server, client) =
        start_with(Options { bookmark_interval: Duration::from_millis(20), ..Options::default() })?;
    let at = server.put(service("a", "x"))?;
    let mut silent = client.watch(&format!("watch=1&resourceVersion={at}"))?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={at}&allowWatchBookmarks=true"))?;
    watch.expect("BOOKMARK", "", at)?;
    // What does not concern the watch moves its bookmarks all the same.
    let node = server.put(cluster::node(None, &[], &[]))?;
    loop {
        let event = watch.event()?;
        let seen = version(&event["object"])?;
        ensure!(event["type"] == "BOOKMARK" && event["object"]["kind"] == "Service", "{event}");
        ensure!((at..=node).contains(&seen), "{event}");
        if seen == node {
            break;
        }
    }
    silent.expect("DELETED", "a", delete(&server, "a")?)?;
    Ok(())
}

pub(super) fn watch_ends_in_time() -> Result<()> {
    let (server, client) = start()?;
    server.put(service("a", "x"))?;
    let mut watch = client.watch("watch=1&timeoutSeconds=1")?;
    watch.event()?;
    watch.expect_end()?;
    server.await_watches(0, PATIENCE)
}

pub(super) fn back_with_older_state() -> Result<()> {
    let (server, client) = start()?;
    let then = server.put(service("a", "x"))?;
    let state = server.snapshot();
    ensure!(state.version() == then, "a snapshot of another moment");
    server.put(service("a", "y"))?;
    let future = server.put(service("b", "x"))?;
    let mut open = client.watch(&format!("watch=1&resourceVersion={future}"))?;
    server.restart_with(state);
    open.expect_break()?;
    let list = client.list("")?;
    ensure!(version(&list)? == then && names(&list) == ["a"], "{list}");
    ensure!(list["items"][0]["metadata"]["labels"]["run"] == "x", "{list}");
    client.refused(&format!("{SERVICES}?resourceVersion={future}"), 504, "Timeout")?;
    client.watch(&format!("watch=1&resourceVersion={}", then - 1))?.expect_error(410, "Expired")?;
    // As the real one: what happens until that version is reached again is not told.
    let mut watch = client.watch(&format!("watch=1&resourceVersion={future}"))?;
    let mut now = client.watch(&format!("watch=1&resourceVersion={then}"))?;
    for round in then + 1..=future {
        now.expect("ADDED", &format!("c{round}"), server.put(service(&format!("c{round}"), "x"))?)?;
    }
    watch.expect("ADDED", "d", server.put(service("d", "x"))?)?;
    let (_server, client) = start_with(Options { refuse_future_watches: true, ..Options::default() })?;
    client.watch("watch=1&resourceVersion=1000")?.expect_error(504, "Timeout")
}
