//! Only what changed is written, and what is without use goes.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use testbed::Subject;
use testbed::cluster::Service;
use testbed::subject::Seen::AsItself;

use crate::names::suffix;
use crate::restores::{Restores, Script};
use crate::{own_chains, tables};

testbed::scenarios![
    Subject:
    a_change_writes_only_the_chains_of_its_service,
    a_new_service_adds_a_rule_to_the_shared_chains,
    a_restart_with_nothing_new_runs_nothing,
    a_restart_writes_only_what_changed_meanwhile,
    chains_without_use_are_gone,
];

/// Fifty services, two endpoints each; `s20` to `s69`.
fn serve_fifty(s: &mut Subject) -> Result<()> {
    for number in 20..70u8 {
        let name = format!("s{number}");
        let service = Service::new(&name, s.family().cluster_ip(number)).tcp("http", 80);
        let slice = s.slice(&name, &["pod-1", "pod-2"]);
        s.cluster.put(service).put_slice(slice);
    }
    s.sync()?;
    // What comes of the next change is to be seen by itself.
    s.proxy()?.await_quiet()
}

fn change_one(s: &mut Subject) {
    let slice = s.slice("s42", &["pod-1", "remote-1"]);
    s.cluster.put_slice(slice);
}

/// The chains that may be written for `s42`.
fn chains_of_one(s: &Subject) -> Result<BTreeSet<String>> {
    let of = "test/s42:httptcp";
    let mut chains = BTreeSet::from([format!("KUBE-SVC-{}", suffix(of)?)]);
    for pod in [s.bed.pod(1), s.bed.pod(2), s.bed.remote_pod(1)] {
        let endpoint = std::net::SocketAddr::new(pod.ip(s.family()), testbed::POD_PORT);
        chains.insert(format!("KUBE-SEP-{}", suffix(&format!("{of}{endpoint}"))?));
    }
    Ok(chains)
}

/// The chains that scripts make, empty, fill or delete, and those of services' own that their rules lead to.
fn touched(scripts: &[Script]) -> BTreeSet<String> {
    let words = scripts.iter().flat_map(|script| script.text.split([' ', '\n', ':']));
    words.filter(|word| word.starts_with("KUBE-") && *word != "KUBE-MARK-MASQ").map(str::to_owned).collect()
}

fn check_only_one_was_written(s: &Subject, scripts: &[Script]) -> Result<()> {
    let of_family = tables(s)?.program("-restore");
    ensure!(!scripts.is_empty(), "nothing was written");
    for script in scripts {
        ensure!(script.program == of_family, "{} was run: {script:#?}", script.program);
        ensure!(script.text.contains("*nat\n") && !script.text.contains("*filter\n"), "{}", script.text);
    }
    let (touched, allowed) = (touched(scripts), chains_of_one(s)?);
    let others: Vec<_> = touched.difference(&allowed).collect();
    ensure!(others.is_empty(), "{others:?} are no chains of that service:\n{scripts:#?}");
    Ok(())
}

fn a_change_writes_only_the_chains_of_its_service(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    serve_fifty(s)?;
    ensure!(!restores.scripts()?.is_empty(), "the test does not see what is written");
    restores.forget()?;
    change_one(s);
    s.sync()?;
    check_only_one_was_written(s, &restores.scripts()?)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(42), 80), &["pod-1", "remote-1"], AsItself)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(43), 80), &["pod-1", "pod-2"], AsItself)?;
    Ok(())
}

fn a_new_service_adds_a_rule_to_the_shared_chains(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    serve_fifty(s)?;
    restores.forget()?;
    s.serve_web(&["pod-1"])?;
    let scripts = restores.scripts()?;
    let rules = scripts.iter().flat_map(|script| script.text.lines());
    let shared = rules.filter(|line| line.split(' ').nth(1) == Some("KUBE-SERVICES")).count();
    ensure!(shared == 1, "{shared} rules of KUBE-SERVICES were written for one service:\n{scripts:#?}");
    let emptied = scripts.iter().any(|script| script.text.contains(":KUBE-SERVICES "));
    ensure!(!emptied, "KUBE-SERVICES was written whole:\n{scripts:#?}");
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    Ok(())
}

fn a_restart_with_nothing_new_runs_nothing(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    s.serve_all_kinds()?;
    s.proxy()?.kill()?;
    restores.forget()?;
    s.restart()?;
    let scripts = restores.scripts()?;
    ensure!(scripts.is_empty(), "a restart with nothing new ran {scripts:#?}");
    s.check_all_kinds()
}

fn a_restart_writes_only_what_changed_meanwhile(s: &mut Subject) -> Result<()> {
    let restores = Restores::put_in_front(s)?;
    serve_fifty(s)?;
    s.proxy()?.kill()?;
    change_one(s);
    let manifest = s.cluster.manifest();
    fs::write(s.proxy()?.folder().join("cluster.json"), manifest)?;
    restores.forget()?;
    s.restart()?;
    check_only_one_was_written(s, &restores.scripts()?)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(42), 80), &["pod-1", "remote-1"], AsItself)?;
    Ok(())
}

fn chains_without_use_are_gone(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    let slice = s.slice("web", &["pod-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    let web = "test/web:httptcp";
    let chain_of = |pod: &testbed::Pod| -> Result<String> {
        let endpoint = std::net::SocketAddr::new(pod.ip(s.family()), testbed::POD_PORT);
        Ok(format!("KUBE-SEP-{}", suffix(&format!("{web}{endpoint}"))?))
    };
    let chains = own_chains(s)?;
    ensure!(chains.contains(&chain_of(s.bed.pod(1))?), "the chain of an endpoint in use is gone");
    for gone in [s.bed.pod(2), s.bed.remote_pod(1)] {
        let gone = chain_of(gone)?;
        ensure!(!chains.contains(&gone), "the endpoint is gone, {gone} is not: {chains:#?}");
    }
    for name in ["web", "local", "sticky", "empty"] {
        s.cluster.delete(name);
    }
    s.sync()?;
    let left = own_chains(s)?;
    ensure!(left.is_empty(), "no service is left, but {left:?}");
    Ok(())
}
