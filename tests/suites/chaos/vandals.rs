//! Others who change what we programmed.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::nft::{Batch, Nftables, Table};
use testbed::rules::Edit;
use testbed::{Family, http};

use crate::churn::{change, many, start_for_churn};
use crate::subject::{Chaos, Dice};

/// Our table, as `nft` names it.
fn table(chaos: &Chaos) -> &'static str {
    if chaos.family == Family::V4 { "ip pointsman" } else { "ip6 pointsman" }
}

pub(crate) fn edits(chaos: &mut Chaos) -> Result<()> {
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(3);
    let before = chaos.resources_at_rest(&proxy)?;
    for (round, edit) in Edit::ALL.into_iter().chain(Edit::ALL).enumerate() {
        // Neither the edit nor the change may be lost, whichever the proxy hears of first.
        proxy.await_sync_after(|| {
            change(chaos, &proxy, &mut dice)?;
            chaos.rules().edit(edit)
        })?;
        proxy.save("changing.json", &chaos.cluster().manifest())?;
        proxy.await_quiet()?;
        let repairs = metric(chaos, "pointsman_repairs_total")?;
        if chaos.rules().are_watched_by_the_kernel() {
            ensure!(repairs > round as f64, "{repairs} repairs were counted after {} edits", round + 1);
        }
        chaos.await_answers(&proxy, &format!("{edit:?}"))?;
    }
    ensure!(metric(chaos, "pointsman_repairs_total")? > 0.0, "no repair was counted");
    ensure!(chaos.rules().is_blamed_in(&proxy.log()), "who it was is not in the log");
    chaos.check_resources(&proxy, before)?;
    chaos.check_kernel(&mut proxy)
}

pub(crate) fn owned_table(chaos: &mut Chaos) -> Result<()> {
    let table = table(chaos);
    chaos.args.extend(["--iptables-sync-period", "1s"].map(str::to_owned));
    let mut proxy = start_for_churn(chaos)?;
    ensure!(health(chaos)?.0 == 200, "it is healthy at first");
    let before = chaos.resources_at_rest(&proxy)?;
    // While it runs, nobody else may change the table; when it ends, the table goes.
    let mut owner = Command::new("nft");
    owner.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = chaos.bed.node.run(|| owner.spawn())?.context("cannot run nft")?;
    let commands = format!("delete table {table}; add table {table} {{ flags owner; }}\n");
    proxy.await_line_after("cannot program the node: no permission", || {
        Ok(owner.stdin.as_mut().context("no input")?.write_all(commands.as_bytes())?)
    })?;
    change(chaos, &proxy, &mut Dice(4))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while health(chaos)?.0 != 503 {
        ensure!(Instant::now() < deadline, "it is still healthy: {:?}", health(chaos)?);
    }
    let (_, body) = health(chaos)?;
    ensure!(body.contains("no permission"), "health does not say why: {body}");
    ensure!(metric(chaos, "pointsman_sync_failures_total")? > 1.0, "failures were not counted");
    // That the table went is news: there is no waiting for the next attempt.
    proxy.await_sync_after(|| Ok(owner.kill()?))?;
    owner.wait()?;
    proxy.save("changing.json", &chaos.cluster().manifest())?;
    ensure!(health(chaos)?.0 == 200, "it is not healthy again: {:?}", health(chaos)?);
    chaos.check_answers("the table came free")?;
    chaos.check_resources(&proxy, before)?;
    chaos.check_kernel(&mut proxy)
}

pub(crate) fn busy_start(chaos: &mut Chaos) -> Result<()> {
    // Not by `nft`, which takes its time where there are many rules.
    let mut other = chaos.bed.node.run(Nftables::open)??;
    let table = Table { family: kernel::nft::Family::Ip, name: "other".to_owned() };
    let done = AtomicBool::new(false);
    // Enough that the first sync takes longer than one of the other's.
    let cluster = many(chaos, chaos.rules().services_at_once());
    let mut proxy = thread::scope(|scope| {
        scope.spawn(|| program_another(&mut other, &table, &done));
        let proxy = chaos.start(&cluster);
        done.store(true, Ordering::Relaxed);
        proxy
    })?;
    // Nobody listens while the first sync is made; that others were busy is known all the same.
    proxy.await_line_with("somebody changed nftables during the first sync")?;
    proxy.await_quiet()?;
    chaos.check_kernel(&mut proxy)?;
    let news = proxy.log().matches("during the first sync").count();
    ensure!(news == 1, "it was told of {news} times, though nobody was busy at the second start");
    Ok(())
}

/// Programs another table until it is done. Programs of iptables read anew whenever that happens, and would never end if
/// there were no pause.
fn program_another(other: &mut Nftables, table: &Table, done: &AtomicBool) -> Result<()> {
    const PACE: Duration = Duration::from_millis(50);
    while !done.load(Ordering::Relaxed) {
        let [mut come, mut go] = [(); 2].map(|()| Batch::new(table.clone()));
        come.add_table("of somebody else");
        go.delete_table();
        other.commit(come)?;
        other.commit(go)?;
        thread::sleep(PACE);
    }
    Ok(())
}

fn health(chaos: &Chaos) -> Result<(u16, String)> {
    http::get(&chaos.bed.node, ([127, 0, 0, 1], 10256).into(), "/healthz")
}

fn metric(chaos: &Chaos, name: &str) -> Result<f64> {
    http::metric(&chaos.bed.node, ([127, 0, 0, 1], 10249).into(), name)
}
