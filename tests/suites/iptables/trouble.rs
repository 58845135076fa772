//! iptables that is missing or refuses a line: what is said, and that it comes right by itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use testbed::subject::Seen::AsItself;
use testbed::{Subject, binary};

use crate::names::suffix;
use crate::restores::Restores;
use crate::served::{await_health, change_web, serve_web_and_shop};
use crate::tables;

testbed::scenarios![
    Subject:
    a_line_that_is_refused_at_the_start_is_shown_and_tried_again,
    a_jump_to_nowhere_is_shown_and_tried_again,
    a_refused_service_is_named_and_left_out,
    missing_programs_are_named_with_their_package,
];

/// Nothing can be programmed before this line can: it is shown by number and text, and tried again.
fn a_line_that_is_refused_at_the_start_is_shown_and_tried_again(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    s.args(&["--iptables-sync-period", "1s"]);
    restores.spoil("/^-A KUBE-POSTROUTING .*MASQUERADE/s/$/ --no-such-thing/\n")?;
    let (web, slice) = (s.web(), s.slice("web", &["pod-1"]));
    s.cluster.put(web).put_slice(slice);
    s.launch()?;
    let logged = s.proxy()?.await_line_with("-A KUBE-POSTROUTING ")?;
    let scripts = restores.scripts()?;
    let spoilt = |line: &str| line.ends_with("--no-such-thing");
    let spoilt = scripts.iter().find_map(|script| script.text.lines().position(spoilt));
    let number = spoilt.context("no script was spoilt")? + 1;
    ensure!(logged.contains(&format!("line {number},")), "it is line {number} of {scripts:#?}: {logged}");
    ensure!(logged.contains("no-such-thing"), "what iptables says is not told: {logged}");
    await_health(s, 503)?;
    restores.repair()?;
    s.proxy()?.await_line_with("synced")?;
    check_all_is_well(s, "pod-1")
}

/// Whatever was in force stays in force.
fn a_jump_to_nowhere_is_shown_and_tried_again(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    s.args(&["--iptables-sync-period", "1s"]);
    serve_web_and_shop(s)?;
    restores.spoil("s/-j KUBE-MARK-MASQ$/-j KUBE-NOWHERE/\n")?;
    change_web(s, &["pod-2"])?;
    s.proxy()?.await_line_with("KUBE-NOWHERE")?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    restores.repair()?;
    // What was left out meanwhile, if anything, is tried again when it changes.
    change_web(s, &["pod-1", "pod-2"])?;
    change_web(s, &["pod-2"])?;
    check_all_is_well(s, "pod-2")
}

/// `web` comes to lead to a pod, the proxy is healthy, and a fresh start finds nothing to do.
fn check_all_is_well(s: &mut Subject, pod: &str) -> Result<()> {
    s.await_reaches(s.web_address(), &[pod])?;
    await_health(s, 200)?;
    s.proxy()?.await_quiet()?;
    s.proxy()?.kill()?;
    s.restart()?;
    ensure!(s.last_operations()? == 0, "something was left to do");
    Ok(())
}

/// One service's rules cannot be taken; the others' can.
fn a_refused_service_is_named_and_left_out(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    serve_web_and_shop(s)?;
    let chain = format!("KUBE-SVC-{}", suffix("test/web:httptcp")?);
    restores.spoil(&format!("s/^-A {chain} -m comment .*/& --no-such-thing/\n"))?;
    // Both change at once.
    let slice = s.slice("shop", &["pod-2"]);
    s.cluster.put_slice(slice);
    change_web(s, &["pod-1", "pod-2"])?;
    let line = s.proxy()?.await_line_with(&format!("-A {chain}"))?;
    ensure!(line.contains("test/web:http"), "the log does not name the service: {line}");
    s.proxy()?.await_line_with("the kernel refuses service port test/web:http")?;
    let shop = (s.family().cluster_ip(11), 80);
    s.await_reaches(shop.into(), &["pod-2"])?;
    restores.repair()?;
    // It is tried again when it changes.
    change_web(s, &["pod-2"])?;
    s.await_reaches(s.web_address(), &["pod-2"])
}

/// Hides folders where programs of iptables may be, on a node that has none.
fn hide_iptables() -> Result<()> {
    for folder in ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Path::new) {
        if folder.is_dir() {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("cannot hide {}", folder.display()))?;
        }
    }
    Ok(())
}

fn missing_programs_are_named_with_their_package(s: &mut Subject) -> Result<()> {
    let program = tables(s)?.program("-restore");
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary()?);
    command.args(s.all_args()).arg("--manifests").arg(folder.path()).env("PATH", "/nowhere");
    hide_iptables()?;
    let output = s.bed.node.run(|| command.output())?.context("cannot start pointsman")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "it ended with {}: {said}", output.status);
    // Whichever family is looked for first.
    let program = program.trim_start_matches("ip6").trim_start_matches("ip");
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("install the package iptables")).collect();
    ensure!(lines.len() == 1 && lines[0].contains(program), "not one line that names {program}:\n{said}");
    Ok(())
}
