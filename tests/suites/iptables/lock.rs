//! The xtables lock, by which programs of iptables' legacy back end keep out of each other's way.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::mode::NFTABLES;
use testbed::subject::Seen::AsItself;
use testbed::subject::has_chains;
use testbed::{Subject, await_that, http};

use crate::served::{await_health, change_web, serve_web_and_shop};
use crate::tables;

testbed::scenarios![
    Subject:
    a_lock_that_is_held_for_ever_is_shown_and_waited_for,
    damage_while_we_wait_for_the_lock_is_repaired,
    another_mode_that_cannot_have_the_lock_tries_again,
];

/// A process that holds the lock until it is killed.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn new() -> Result<Self> {
        let mut command = Command::new("flock");
        command.args(["--no-fork", "/run/xtables.lock", "sleep", "infinity"]).stdin(Stdio::null());
        let child = command.spawn().context("cannot run flock")?;
        let id = format!(" {} ", child.id());
        await_that("the lock is held", || Ok(fs::read_to_string("/proc/locks")?.contains(&id)))?;
        Ok(Self(child))
    }

    pub(crate) fn release(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

fn a_lock_that_is_held_for_ever_is_shown_and_waited_for(s: &mut Subject) -> Result<()> {
    s.args(&["--iptables-sync-period", "1s"]);
    serve_web_and_shop(s)?;
    await_health(s, 200)?;
    let holder = Holder::new()?;
    let held = format!("sleep (process {})", holder.0.id());
    change_web(s, &["pod-2"])?;
    let line = s.proxy()?.await_line_with("xtables lock")?;
    ensure!(line.contains(&held), "who holds the lock is not told ({held}): {line}");
    let said = await_health(s, 503)?;
    ensure!(said.contains("xtables lock"), "health does not say why: {said}");
    let (status, body) = http::get(&s.bed.node, ([127, 0, 0, 1], 10256).into(), "/livez")?;
    ensure!(status == 503 && !body.contains("nodeEligible"), "{status} {body}");
    // What was in force is.
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    holder.release()?;
    s.await_reaches(s.web_address(), &["pod-2"])?;
    await_health(s, 200)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(11), 80), &["pod-1"], AsItself)?;
    Ok(())
}

/// Whoever has the lock before us may change what we have written; that our own change comes next must not hide it.
fn damage_while_we_wait_for_the_lock_is_repaired(s: &mut Subject) -> Result<()> {
    serve_web_and_shop(s)?;
    let holder = Holder::new()?;
    change_web(s, &["pod-2"])?;
    let proxy = s.take_proxy()?;
    await_that("the proxy waits for the lock", || proxy.has_open(Path::new("/run/xtables.lock")))?;
    s.give_proxy(proxy);
    // As the holder might, who need not wait for the lock.
    let program = tables(s)?.program("");
    let flush = ["XTABLES_LOCKFILE=/run/other.lock", &program, "-t", "nat", "-F", "KUBE-SERVICES"];
    s.bed.node.output("env", &flush)?;
    holder.release()?;
    s.await_reaches(s.web_address(), &["pod-2"])?;
    s.await_reaches((s.family().cluster_ip(11), 80).into(), &["pod-1"])
}

fn another_mode_that_cannot_have_the_lock_tries_again(s: &mut Subject) -> Result<()> {
    serve_web_and_shop(s)?;
    let mode = s.mode();
    ensure!(has_chains(s, mode)?, "the test does not see the rules of {mode:?}");
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.ask_for_mode(NFTABLES.args);
    let holder = Holder::new()?;
    s.sync()?;
    s.proxy()?.await_line_with("is still there")?;
    holder.release()?;
    s.proxy()?.await_line_with("removed what another mode")?;
    ensure!(!has_chains(s, mode)?, "rules of {mode:?} are left");
    Ok(())
}
