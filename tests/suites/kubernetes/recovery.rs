//! What happened while the server could not be heard is caught up with, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::api_server::Fault;

use crate::subject::Subject;

/// Two services, everything watched.
fn start_with_kept_and_gone(subject: &mut Subject) -> Result<()> {
    subject.put("kept", 10, &[1]);
    subject.put("gone", 11, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()
}

pub(crate) fn nothing_is_programmed_before_everything_is_in(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.proxy()?.kill()?;
    subject.server.set_fault(Some(Fault::Hang));
    subject.launch()?;
    subject.proxy()?.await_line_with("started")?;
    subject.check_left_in_force(10, 1)?;
    subject.server.set_fault(None);
    let line = subject.proxy()?.await_line_with("synced")?;
    ensure!(line.contains(" operations=0 "), "something was there to do: {line}");
    subject.await_leads_to(10, 1)
}

pub(crate) fn what_happened_while_the_server_was_away_is_caught_up_with(subject: &mut Subject) -> Result<()> {
    start_with_kept_and_gone(subject)?;
    subject.server.set_fault(Some(Fault::Down));
    subject.proxy()?.await_line_with("cannot follow EndpointSlices")?;
    subject.check_leads_to(10, 1)?;
    subject.remove("gone");
    subject.put("new", 12, &[2]);
    subject.publish()?;
    subject.await_new_watches(4, || subject.server.set_fault(None))?;
    subject.await_leads_to(10, 1)?;
    subject.await_gone(11)?;
    subject.await_leads_to(12, 2)?;
    let lists = subject.metric(r#"pointsman_api_lists_total{kind="Service"}"#)?;
    ensure!(lists == 1.0, "the watch was resumed, but {lists} lists were read");
    Ok(())
}

pub(crate) fn cut_connections_lose_no_change(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    for round in 0..40 {
        subject.put_endpoints("web", &[1 + round % 3, 1 + (round + 1) % 3]);
        subject.put(&format!("s{round}"), 100 + round, &[1 + round % 3]);
        subject.publish()?;
        if round % 4 == 0 {
            subject.server.cut_connections();
        }
    }
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_watches()?;
    subject.await_leads_to(10, 2)?;
    for round in 0..40 {
        subject.await_leads_to(100 + round, 1 + round % 3)?;
    }
    Ok(())
}

pub(crate) fn an_expired_watch_lists_again_and_disturbs_nothing(subject: &mut Subject) -> Result<()> {
    start_with_kept_and_gone(subject)?;
    // The version that the watches stand at is forgotten, and so is that something was deleted since.
    subject.server.set_fault(Some(Fault::Down));
    subject.remove("gone");
    subject.publish()?;
    subject.server.compact();
    subject.await_new_watches(4, || subject.server.set_fault(None))?;
    subject.proxy()?.await_line_with("cannot resume the watch of Services")?;
    subject.await_watches()?;
    subject.await_gone(11)?;
    subject.await_leads_to(10, 1)?;
    // A watch that is open hears of it in an event.
    subject.await_new_watches(4, || subject.server.expire_watches())?;
    subject.await_quiet()?;
    let line = subject.proxy()?.last_line_with("synced").unwrap_or_default();
    ensure!(line.contains(" operations=0 "), "the same list again changed something: {line}");
    subject.await_leads_to(10, 1)
}

pub(crate) fn a_server_restored_from_older_state_is_believed(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    let older = subject.server.snapshot();
    subject.put_endpoints("web", &[2]);
    subject.put("new", 11, &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    subject.await_watches()?;
    // A watch that goes on from the version of before would be silent.
    subject.await_new_watches(4, || subject.server.restart_with(older))?;
    subject.proxy()?.await_line_with("was taken back to an older state: listing Services again")?;
    subject.await_leads_to(10, 1)?;
    subject.await_gone(11)
}

pub(crate) fn an_expired_token_is_replaced_in_flight(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    subject.server.rotate_token();
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    subject.server.cut_connections();
    subject.proxy()?.await_line_with("is the token or client certificate still valid?")?;
    subject.put_endpoints("web", &[1]);
    subject.publish()?;
    subject.reconfigure()?;
    subject.await_watches()?;
    subject.await_leads_to(10, 1)
}

pub(crate) fn a_dead_watch_is_noticed_and_shown(subject: &mut Subject) -> Result<()> {
    const SILENCE: Duration = Duration::from_secs(2);
    subject.args.extend(["--watch-silence".to_owned(), "2s".to_owned()]);
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    let (status, health) = subject.health()?;
    ensure!(status == 200 && health["watches"]["Service"]["watching"] == true, "{health}");
    let hung = Instant::now();
    subject.server.set_fault(Some(Fault::Hang));
    for kind in ["Services", "EndpointSlices", "ServiceCIDRs", "Nodes"] {
        let silence = format!("cannot follow {kind}: nothing was heard from the API server");
        subject.proxy()?.await_line_with(&silence)?;
    }
    ensure!(hung.elapsed() >= SILENCE / 2, "bookmarks come every second: it was not silent for long");
    let (status, health) = subject.health()?;
    ensure!(status == 200, "a node is not to be taken out of service for that: {health}");
    ensure!(health["watches"]["Service"]["watching"] == false, "{health}");
    let silent = r#"pointsman_api_watch_failures_total{kind="Service",reason="silent"}"#;
    ensure!(subject.metric(silent)? >= 1.0, "it was not counted");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_new_watches(4, || subject.server.set_fault(None))?;
    subject.proxy()?.await_line_with("Services are followed again")?;
    subject.await_leads_to(10, 2)
}
