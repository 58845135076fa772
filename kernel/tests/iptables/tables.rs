//! What there is to know of whole tables: listings, sizes and the lock.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel::Error;
use kernel::iptables::{Backend, Iptables, SavedLine, Table};

use super::{SCRIPT, run_command, saved};

pub(super) fn save_all(iptables: &Iptables) -> Result<()> {
    let all = || {
        let mut seen = Vec::new();
        iptables.save_all(|table, line| seen.push((table, format!("{line:?}")))).map(|()| seen)
    };
    ensure!(all()?.is_empty() && all()?.is_empty(), "an empty namespace has tables");
    iptables.restore(SCRIPT)?;
    iptables.restore("*mangle\n:KUBE-C - [0:0]\nCOMMIT\n*raw\n:KUBE-D - [0:0]\nCOMMIT\n")?;
    let seen = all()?;
    let has = |table, name: &str| seen.contains(&(table, format!("{:?}", SavedLine::Chain(name))));
    ensure!(has(Table::Nat, "KUBE-A") && has(Table::Mangle, "KUBE-C"), "{seen:?}");
    ensure!(seen.iter().all(|(table, line)| *table != Table::Filter && !line.contains("KUBE-D")), "{seen:?}");
    Ok(())
}

pub(super) fn foreign_rules() -> Result<()> {
    let iptables = Iptables::find(Backend::Nft, false)?;
    iptables.restore(SCRIPT)?;
    run_command("nft add rule ip nat PREROUTING meta mark set numgen random mod 2")?;
    let Err(error) = saved(&iptables, Table::Nat) else { bail!("a table that cannot be listed was listed") };
    ensure!(error.to_string().contains("Table `nat' is incompatible"), "{error}");
    let mut lines = 0;
    iptables.save_all(|_, _| lines += 1)?;
    ensure!(lines == 0, "{lines} lines of a table that cannot be listed");
    Ok(())
}

pub(super) fn no_size() -> Result<()> {
    let result = Iptables::find(Backend::Nft, false)?.size(Table::Nat);
    ensure!(result.is_err(), "{result:?}");
    Ok(())
}

/// A child that is ended and awaited when it is out of use.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn locked(iptables: &Iptables) -> Result<()> {
    // It says so once it has the lock, and lets go when it is ended: `exec` leaves one process.
    let mut holder = Command::new("flock")
        .args(["--no-fork", "/run/xtables.lock", "sh", "-c", "echo; exec sleep 100"])
        .stdout(Stdio::piped())
        .spawn()
        .map(Ended)
        .context("apt-get install util-linux")?;
    holder.0.stdout.take().context("no pipe")?.read_exact(&mut [0])?;
    let impatient = iptables.clone().with_lock_wait(Duration::from_secs(1));
    match impatient.restore(SCRIPT) {
        Err(Error::Locked { seconds: 1, holder: Some(name) }) => {
            ensure!(name == format!("sleep (process {})", holder.0.id()), "{name} is said to hold it");
        }
        other => bail!("{other:?}"),
    }
    drop(holder);
    Ok(impatient.restore(SCRIPT)?)
}

pub(super) fn size(iptables: &Iptables) -> Result<()> {
    iptables.restore(SCRIPT)?;
    let before = iptables.size(Table::Nat)?;
    ensure!(before == iptables.size(Table::Nat)?, "a table that did not change has two sizes");
    iptables.restore("*nat\n-A KUBE-B -j RETURN\nCOMMIT\n")?;
    let after = iptables.size(Table::Nat)?;
    ensure!(
        after != before && after.entries == before.entries + 1 && after.bytes > before.bytes,
        "{after:?}"
    );
    iptables.restore("*nat\n-D KUBE-B -j RETURN\nCOMMIT\n")?;
    ensure!(iptables.size(Table::Nat)? == before, "a rule that came and went left its size");
    iptables.size(Table::Filter)?;
    iptables.size(Table::Mangle)?;
    Ok(())
}
