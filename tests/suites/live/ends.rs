//! How it ends, and that nothing is left.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use testbed::{Subject, User, binary, program_as};

use crate::{Live, has_hops, ruleset};

testbed::scenarios![
    Subject:
    it_ends_when_it_must_and_leaves_nothing,
];

fn it_ends_when_it_must_and_leaves_nothing(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let before = ruleset(s)?;
    let target = s.web_address().to_string();

    let live = Live::start(s, &[&target, "--for", "300ms"])?;
    let ended = live.ended()?;
    ensure!(ended.status.success() && ended.events.len() == 1, "{:#?}", ended.events);
    ensure!(ended.only("summary")?["why"] == "the time is over");
    ensure!(ruleset(s)? == before, "something is left after its end");

    let live = Live::start(s, &[&target, "--for", "1h"])?;
    live.signal(Signal::SIGINT)?;
    let ended = live.ended()?;
    ensure!(ended.status.success() && ended.only("summary")?["why"] == "interrupted", "{}", ended.said);
    ensure!(ruleset(s)? == before, "something is left after an interruption");

    // Two at once do not disturb each other.
    let [one, other] = [Live::start(s, &[&target])?, Live::start(s, &["--for", "1h"])?];
    let while_it_runs = ruleset(s)?;
    ensure!(while_it_runs != before || !has_hops(s), "nothing is traced");
    for live in [one, other] {
        live.signal(Signal::SIGKILL)?;
        ensure!(!live.ended()?.status.success());
    }
    ensure!(ruleset(s)? == before, "something is left after kill -9");

    let mut command = program_as(User::Container(&[]), &binary()?);
    command.args(["trace", "--live"]);
    let output = s.bed.node.run(|| command.output())?.context("cannot run pointsman")?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.lines().count() == 1, "{said}");
    ensure!(said.contains("CAP_NET_ADMIN"), "{said}");
    Ok(())
}
