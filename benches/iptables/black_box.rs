//! A proxy's binary on a node, with an API server, measured from outside: by connections and `/proc`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use benches::contender::{Cluster, Contender, await_pod};
use benches::figures::{Figures, median};
use modes::iptables::Backend;

use crate::inside;
use crate::report as row;

/// Changes of the probed Service's endpoint.
const FLIPS: u32 = 12;

/// Pointsman.
pub(crate) fn pointsman(services: u32, backend: Backend) -> Result<Figures> {
    let command = Command::new(testbed::binary()?);
    measure(services, command, &["--iptables-backend", &backend.to_string()], &inside::who(backend))
}

/// A kube-proxy, which runs what is called plain `iptables`.
pub(crate) fn kube_proxy(binary: &Path, services: u32, backend: Backend) -> Result<Figures> {
    let mut command = Command::new(binary);
    command.env("PATH", path_with_plain_names(backend)?);
    measure(services, command, &[], &format!("kube-proxy, {}", inside::who(backend)))
}

fn measure(services: u32, command: Command, flags: &[&str], who: &str) -> Result<Figures> {
    let cluster = Cluster::new(services)?;
    let args = [&cluster.source(), &["--proxy-mode", "iptables"], flags].concat();
    let started = Instant::now();
    let Contender { process, .. } = &Contender::start(&cluster.bed, command, &args)?;
    await_pod(&cluster.bed, 1)?;
    let mut figures = Figures::default();
    figures.add(who, row::START, started.elapsed());
    process.await_rest()?;
    figures.add_bytes(who, row::RESIDENT, process.resident()?);
    figures.add_bytes(who, row::PEAK, process.peak()?);
    let (own, tree) = (process.cpu()?, process.cpu_of_tree()?);
    let flip = |number: u32| cluster.lead_to(if number.is_multiple_of(2) { 2 } else { 1 });
    let mut times = (0..FLIPS).map(flip).collect::<Result<Vec<_>>>()?;
    process.await_rest()?;
    figures.add(who, row::EVENT, median(&mut times));
    figures.add(who, row::EVENT_TREE_CPU, (process.cpu_of_tree()? - tree) / FLIPS);
    figures.add(who, row::EVENT_CPU, (process.cpu()? - own) / FLIPS);
    Ok(figures)
}

/// `PATH` with a folder in front where the plain names are those of one back end.
fn path_with_plain_names(backend: Backend) -> Result<OsString> {
    let folder = std::env::temp_dir().join("plain");
    fs::create_dir(&folder)?;
    let path = std::env::var_os("PATH").context("no PATH")?;
    for family in ["iptables", "ip6tables"] {
        for part in ["", "-restore", "-save"] {
            let program = format!("{family}-{backend}{part}");
            let found = std::env::split_paths(&path).map(|folder| folder.join(&program));
            let found = found.into_iter().find(|file| file.exists());
            let found = found.with_context(|| format!("{program} is not installed"))?;
            symlink(found, folder.join(format!("{family}{part}")))?;
        }
    }
    let mut all = folder.into_os_string();
    all.push(":");
    all.push(path);
    Ok(all)
}
