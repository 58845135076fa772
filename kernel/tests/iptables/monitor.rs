//! Hearing of what others do to our chains.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel::iptables::{Backend, Iptables};
use kernel::nft::{Disturbance, Family, Monitor, Table};

use super::{SCRIPT, run_command};

/// What a monitor heard first within a few seconds.
fn heard(monitor: Monitor) -> Result<(Disturbance, Monitor)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut monitor = monitor;
        let heard = monitor.next_disturbance();
        let _ = sender.send(heard.map(|heard| (heard, monitor)));
    });
    Ok(receiver.recv_timeout(Duration::from_secs(5)).context("nothing was heard")??)
}

pub(super) fn mentions() -> Result<()> {
    let iptables = Iptables::find(Backend::Nft, false)?;
    iptables.restore(SCRIPT)?;
    let nat = Table { family: Family::Ip, name: "nat".to_owned() };
    let own = iptables.own_processes();
    let mut monitor = Monitor::open_for_mentions(vec![nat.clone()], "KUBE-", own)?;
    let flush = "iptables-nft -t nat -F KUBE-B";
    let removal = "iptables-nft -t nat -D PREROUTING -j KUBE-A";
    let twin = "iptables-nft-restore --noflush /run/script";
    std::fs::write("/run/script", "*nat\n-A KUBE-B -j RETURN\nCOMMIT\n")?;
    for (command, program) in [(flush, "iptables-nft"), (removal, "iptables-nft"), (twin, "iptables-nft-re")]
    {
        // Neither what others do to themselves, nor what we do.
        run_command("iptables-nft -t nat -A PREROUTING -j ACCEPT")?;
        run_command("iptables-nft -t mangle -N KUBE-ELSEWHERE")?;
        run_command("iptables-nft -t mangle -X KUBE-ELSEWHERE")?;
        iptables.restore(SCRIPT)?;
        run_command(command)?;
        let (told, same) = heard(monitor)?;
        monitor = same;
        match told {
            Disturbance::By { table, pid: Some(_), program: Some(name) } => {
                ensure!(
                    (&table, name.as_str()) == (&nat, program),
                    "after {command}: {name} changed {table}"
                );
            }
            other => bail!("{other:?}"),
        }
    }
    iptables.restore(SCRIPT)?;
    run_command("nft flush ruleset")?;
    let (told, _) = heard(monitor)?;
    let by_nft = matches!(&told, Disturbance::By { program: Some(program), .. } if program == "nft");
    ensure!(by_nft, "{told}");
    Ok(())
}
