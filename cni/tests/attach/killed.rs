//! Whoever makes or removes an attachment may be killed at any moment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cni::attach::{Bandwidth, DataPath, PortMapping, Wanted, add, check, remove};
use testbed::suite::Test;

use crate::scene::{Pod, ROUTED, bridge, ip, run};

/// Tells a process of this program what it is to make: one line of JSON comes on its standard input.
const VICTIM: &str = "POINTSMAN_VICTIM";
const ROUNDS: u32 = 60;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("killed::routed::whatever_was_made_is_removed", || killed(&ROUTED)),
        Test::new("killed::bridge::whatever_was_made_is_removed", || killed(&bridge())),
    ]
}

/// Makes and removes an attachment, if this process is there for that.
pub(crate) fn is_victim() -> Result<bool> {
    if std::env::var_os(VICTIM).is_none() {
        return Ok(false);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let wanted: Wanted = serde_json::from_str(&line)?;
    println!("begins");
    add(&wanted)?;
    println!("made");
    remove(&wanted)?;
    println!("removed");
    Ok(true)
}

fn start(wanted: &Wanted) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut victim = command.env(VICTIM, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = victim.stdin.take().context("no stdin")?;
    stdin.write_all(format!("{}\n", serde_json::to_string(wanted)?).as_bytes())?;
    let mut stdout = BufReader::new(victim.stdout.take().context("no stdout")?);
    ensure!(said(&mut stdout)? == "begins");
    Ok((victim, stdout))
}

fn said(stdout: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn killed(path: &DataPath) -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = Wanted {
        ports: vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "udp".to_owned(),
            host_ip: None,
        }],
        bandwidth: Some(Bandwidth { egress_rate: 10_000_000, ..Bandwidth::default() }),
        ..pod.wanted(path.clone(), &["10.244.1.2/24", "fd00:1::2/64"])?
    };
    // How long it takes undisturbed, so that the kills hit all of it.
    let (mut victim, mut stdout) = start(&wanted)?;
    let since = Instant::now();
    ensure!(said(&mut stdout)? == "made");
    let to_make = since.elapsed();
    ensure!(said(&mut stdout)? == "removed");
    let whole = since.elapsed();
    victim.wait()?;
    let (mut partly, mut wholly) = (0, 0);
    for round in 0..ROUNDS {
        // Most of them while it is made, which has more steps.
        let most = if round % 4 == 0 { whole } else { to_make * 3 / 2 };
        let (mut victim, _stdout) = start(&wanted)?;
        let until = Instant::now() + most * round / ROUNDS;
        // A timer is not that exact.
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        victim.kill()?;
        victim.wait()?;
        let there = ip("-br link")?.contains(&wanted.host_interface);
        match check(&wanted) {
            Ok(()) => wholly += 1,
            Err(_) if there => partly += 1,
            Err(_) => {}
        }
        remove(&wanted).with_context(|| format!("after round {round}"))?;
        nothing_left(&pod, &wanted).with_context(|| format!("after round {round}"))?;
    }
    eprintln!("{partly} were made in part, {wholly} whole, of {ROUNDS}");
    ensure!(partly > 0, "nobody was hit while it was being made");
    add(&wanted)?;
    check(&wanted).context("after all of that")?;
    Ok(())
}

fn nothing_left(pod: &Pod, wanted: &Wanted) -> Result<()> {
    let links = ip("-br link")? + &pod.ip("-br link")?;
    let digest = &wanted.host_interface[2..];
    if links.contains(digest) || links.contains("eth0") {
        bail!("devices are left: {links}");
    }
    let rules = run("nft", "list ruleset")?;
    ensure!(!rules.contains(&wanted.container) && !rules.contains("10.244.1.2"), "rules are left: {rules}");
    let routes = ip("route show table all")? + &ip("-6 route show table all")?;
    ensure!(!routes.contains("10.244.1.2 ") && !routes.contains("fd00:1::2 "), "routes are left: {routes}");
    Ok(())
}
