//! Network namespaces against the kernel: what is one is entered, what is none is refused.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::link::Links;
use kernel::netns::{Netns, NotOpened, identity_at};
use kernel::sysctl;
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("a_closure_runs_in_the_namespace_and_nothing_else_does", entered),
        Test::new("sockets_stay_where_they_were_opened", sockets),
        Test::new("what_is_no_network_namespace_is_refused", refused),
        Test::new("namespaces_are_told_apart", told_apart),
    ])
}

fn ip(command: &str) -> Result<String> {
    let output = Command::new("ip").args(command.split(' ')).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn new(name: &str) -> Result<Netns> {
    ip(&format!("netns add {name}"))?;
    Ok(Netns::open(Path::new(&format!("/run/netns/{name}")))?)
}

fn names() -> Result<Vec<String>> {
    Ok(Links::open()?.list()?.into_iter().map(|link| link.name).collect())
}

fn entered() -> Result<()> {
    let netns = new("a")?;
    ip("-n a link add inside type bridge")?;
    ip("link add outside type bridge")?;
    let inside = netns.run(names)??;
    ensure!(inside.contains(&"inside".to_owned()) && !inside.contains(&"outside".to_owned()), "{inside:?}");
    let outside = names()?;
    ensure!(
        outside.contains(&"outside".to_owned()) && !outside.contains(&"inside".to_owned()),
        "{outside:?}"
    );
    // Parameters are the namespace's, too.
    netns.run(|| sysctl::set("net.ipv4.ip_forward", "1"))??;
    ensure!(netns.run(|| sysctl::get("net.ipv4.ip_forward"))?? == "1");
    ensure!(sysctl::get("net.ipv4.ip_forward")? == "0", "the namespace outside was changed");
    let panicked = std::panic::catch_unwind(|| netns.run(|| panic!("as it must")));
    ensure!(panicked.is_err(), "a panic was lost");
    Ok(())
}

fn sockets() -> Result<()> {
    let netns = new("a")?;
    let mut links = netns.run(Links::open)??;
    ip("-n a link add inside type bridge")?;
    ensure!(links.find("inside")?.is_some(), "the connection looks elsewhere");
    // The connection outlives the path, and the namespace lives on for it.
    drop(netns);
    ip("netns del a")?;
    ensure!(links.find("inside")?.is_some(), "the namespace is gone");
    Ok(())
}

fn refused() -> Result<()> {
    fs::write("/run/file", "")?;
    let made = Command::new("mkfifo").arg("/run/pipe").status()?;
    ensure!(made.success());
    let kind = |path: &str| match Netns::open(Path::new(path)) {
        Ok(_) => Ok("a network namespace"),
        Err(NotOpened::Gone { .. }) => Ok("gone"),
        Err(NotOpened::OfAnotherKind { .. }) => Ok("of another kind"),
        Err(NotOpened::Io { cause, .. }) => bail!("{path}: {cause}"),
    };
    let since = Instant::now();
    for (path, wanted) in [
        ("/run/none", "gone"),
        ("/run/file", "gone"),
        ("/run/file/below", "gone"),
        // Nobody writes to it: to wait for that would be for ever.
        ("/run/pipe", "gone"),
        ("/run", "gone"),
        ("/proc/self/ns/mnt", "of another kind"),
        ("/proc/self/ns/user", "of another kind"),
        ("/proc/self/ns/net", "a network namespace"),
    ] {
        ensure!(kind(path)? == wanted, "{path} is {}", kind(path)?);
    }
    ensure!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    ip("netns add a")?;
    ip("netns del a")?;
    ensure!(kind("/run/netns/a")? == "gone");
    Ok(())
}

fn told_apart() -> Result<()> {
    let (a, b) = (new("a")?, new("b")?);
    ensure!(a.identity()? != b.identity()? && a.identity()? == new_path("a")?.identity()?);
    ensure!(identity_at(a.path()) == Some(a.identity()?), "the path says otherwise");
    ensure!(identity_at(Path::new("/run/netns/none")).is_none());
    let ours = Netns::current()?.identity()?;
    ensure!(ours != a.identity()?);
    let inside = a.run(|| Netns::current().map(|current| current.identity()))???;
    ensure!(inside == a.identity()?, "a thread in the namespace takes another for its own");
    Ok(())
}

fn new_path(name: &str) -> Result<Netns> {
    Ok(Netns::open(Path::new(&format!("/run/netns/{name}")))?)
}
