//! A server that is away for long, or never lets a watch be: attempts are rare enough, nothing piles up, and nothing is
//! done twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::api_server::{Fault, Options};
use testbed::{Resources, faketime};

use crate::subject::Subject;

/// How long what takes many attempts may take.
const PATIENCE: Duration = Duration::from_secs(50);
/// How much more memory may be resident after ten thousand watches.
const SLACK_KB: u64 = 2_048;

/// Serves `web` with a clock that runs so much faster, and a bookmark so often by ours.
fn serve_web(subject: &mut Subject, speed: u32, bookmark_interval: Duration) -> Result<()> {
    subject.put("web", 10, &[1]);
    // What is a second to us is minutes to the proxy, which takes a watch that is silent for long to be dead.
    subject.use_server(Options { bookmark_interval, ..Options::default() })?;
    subject.args.extend(["--watch-silence", "20m"].map(str::to_owned));
    subject.publish()?;
    subject.launch_in_time(&faketime::faster(speed)?)?;
    subject.proxy()?.await_line_with("synced")?;
    subject.await_watches()?;
    subject.await_leads_to(10, 1)
}

/// Waits until the metric is at least so large.
fn await_metric(subject: &Subject, name: &str, least: f64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = subject.metric(name)?;
        if value >= least {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} is {value} after {PATIENCE:?}, not {least}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Connections that may be about to open or to close: one for each kind, and one for events.
const UNDER_WAY: usize = 5;

fn ensure_flat(before: Resources, after: Resources) -> Result<()> {
    let leaked = after.descriptors.saturating_sub(before.descriptors);
    ensure!(leaked <= UNDER_WAY, "descriptors: {before:?} became {after:?}");
    ensure!(after.resident_kb < before.resident_kb + SLACK_KB, "memory: {before:?} became {after:?}");
    Ok(())
}

/// How often an operator reads that Services are not followed.
fn times_told(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" WARN ") && line.contains("cannot follow Services")).count()
}

pub(crate) fn an_hour_without_a_server_changes_nothing(subject: &mut Subject) -> Result<()> {
    const FASTER: u32 = 300;
    /// What an hour has room for if each waits for ten seconds, less what chance takes off.
    const ATTEMPTS: u32 = 480;
    const SHORTEST_WAIT: Duration = Duration::from_secs(5);
    const REFUSED: &str = r#"pointsman_api_watch_failures_total{kind="Service",reason="connection"}"#;
    serve_web(subject, FASTER, Duration::from_millis(100))?;
    subject.server.set_fault(Some(Fault::Down));
    // Waits are as long as they get.
    await_metric(subject, REFUSED, 20.0)?;
    let (began, before) = (Instant::now(), subject.proxy()?.resources()?);
    let attempts = subject.metric(REFUSED)?;
    await_metric(subject, REFUSED, attempts + f64::from(ATTEMPTS))?;
    let took = began.elapsed() * FASTER;
    ensure!(
        took >= SHORTEST_WAIT * (ATTEMPTS - 2),
        "{ATTEMPTS} attempts within {took:?} of the proxy's time"
    );
    ensure_flat(before, subject.proxy()?.resources()?)?;
    // Once that the connection broke, and once that there is nobody.
    let told = times_told(&subject.proxy()?.log());
    ensure!(told == 2, "it was told of {told} times");
    ensure!(subject.health()?.0 == 200, "a node is not to be taken out of service for that");
    subject.check_leads_to(10, 1)?;
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_new_watches(4, || subject.server.set_fault(None))?;
    subject.await_leads_to(10, 2)?;
    let lists = subject.metric(r#"pointsman_api_lists_total{kind="Service"}"#)?;
    ensure!(lists == 1.0, "the watch was resumed, but {lists} lists were read");
    Ok(())
}

pub(crate) fn ten_thousand_watches_leave_nothing_behind(subject: &mut Subject) -> Result<()> {
    // What has been heard of ends the waits that grow.
    serve_web(subject, 50, Duration::from_millis(10))?;
    let before = rest_after(subject, 1_000, 10)?;
    let synced = subject.proxy()?.last_line_with("synced");
    ensure_flat(before, rest_after(subject, 10_000, 50)?)?;
    ensure!(subject.proxy()?.last_line_with("synced") == synced, "something was programmed");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)
}

/// What the proxy uses after so many watches that were short, and so many times that all connections broke.
fn rest_after(subject: &mut Subject, watches: u64, cuts: u32) -> Result<Resources> {
    let before = subject.server.watches_opened();
    subject.server.set_fault(Some(Fault::ShortWatches));
    subject.server.await_watches_opened(before + watches, PATIENCE)?;
    subject.server.set_fault(None);
    subject.await_watches()?;
    for _ in 0..cuts {
        subject.await_new_watches(4, || subject.server.cut_connections())?;
    }
    subject.await_watches()?;
    subject.await_quiet()?;
    subject.proxy()?.resources()
}

pub(crate) fn a_server_that_is_not_there_yet_is_told_of_once(subject: &mut Subject) -> Result<()> {
    const REFUSED: &str = r#"pointsman_api_watch_failures_total{kind="Service",reason="connection"}"#;
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.proxy()?.kill()?;
    subject.server.set_fault(Some(Fault::Down));
    subject.launch()?;
    let line = subject.proxy()?.await_line_with("cannot follow Services")?;
    ensure!(line.contains("Connection refused"), "{line}");
    await_metric(subject, REFUSED, 4.0)?;
    let told = times_told(&subject.proxy()?.log());
    ensure!(told == 1, "it was told of {told} times");
    let (status, health) = subject.health()?;
    ensure!(status == 200, "before the first sync, kube-proxy is healthy: {health}");
    subject.check_left_in_force(10, 1)?;
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.server.set_fault(None);
    subject.proxy()?.await_line_with("Services are followed again").context("it came back")?;
    subject.await_leads_to(10, 2)
}

pub(crate) fn what_comes_in_many_pieces_is_one_change(subject: &mut Subject) -> Result<()> {
    // An object of some hundred bytes takes seconds.
    let drip = Fault::SlowDrip { bytes: 8, every: Duration::from_millis(20) };
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.server.set_fault(Some(drip));
    subject.start()?;
    subject.await_watches()?;
    subject.check_leads_to(10, 1)?;
    let opened = subject.server.watches_opened();
    subject.put_endpoints("web", &[2]);
    subject.put("shop", 11, &[1]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    subject.await_leads_to(11, 1)?;
    ensure!(subject.server.watches_opened() == opened, "a watch was given up that was only slow");
    Ok(())
}
