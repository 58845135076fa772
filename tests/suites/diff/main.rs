//! What `pointsman diff` says of the kernel, with and without a process that programs it, in every mode.

mod complaints;

use std::process::ExitCode;
use std::slice;

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::cluster::Service;
use testbed::mode::NFTABLES;
use testbed::rules::Edit;
use testbed::suite::{everywhere, modes, run};
use testbed::{Subject, User, binary};

testbed::scenarios![
    Subject:
    what_others_changed_while_no_proxy_ran_is_told,
    what_changed_in_manifests_while_no_proxy_ran_is_told_by_service,
    the_process_that_runs_is_asked_and_says_what_it_repaired,
];

fn main() -> ExitCode {
    let mut tests = everywhere(modes(), &[SCENARIOS], Subject::prepare, Subject::explain);
    let once = slice::from_ref(&NFTABLES);
    tests.extend(everywhere(once, &[complaints::SCENARIOS], Subject::prepare, Subject::explain));
    run(tests)
}

fn what_others_changed_while_no_proxy_ran_is_told(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    s.check_that_differences_are_told()
}

fn what_changed_in_manifests_while_no_proxy_ran_is_told_by_service(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    s.proxy()?.kill()?;
    let shop = Service::new("shop", s.family().cluster_ip(11)).tcp("http", 80);
    let slice = s.slice("shop", &["pod-1", "pod-2"]);
    s.cluster.put(shop).put_slice(slice);
    let manifest = s.cluster.manifest();
    s.proxy()?.write("cluster.json", &manifest)?;
    let folder = s.proxy()?.folder().to_owned();
    let added = s.differences_from(&folder)?;
    let is_shop = |service: &Option<String>| service.as_deref() == Some("test/shop:http");
    ensure!(added.len() > 1, "{added:#?}");
    ensure!(added.iter().all(|it| it.sign == "+" && is_shop(&it.service)), "{added:#?}");
    // When it has been followed, and forgotten, the same is too much.
    s.restart()?;
    s.proxy()?.kill()?;
    s.cluster.delete("shop").delete_slice("shop");
    let manifest = s.cluster.manifest();
    s.proxy()?.write("cluster.json", &manifest)?;
    let gone = s.differences_from(&folder)?;
    ensure!(gone.len() > 1 && gone.iter().all(|it| it.sign == "-"), "{gone:#?}");
    // IPVS knows no names, and the Service that could tell is gone.
    ensure!(s.mode().is("ipvs") || gone.iter().any(|it| is_shop(&it.service)), "{gone:#?}");
    let shop = s.family().cluster_ip(11).to_string();
    ensure!(!s.mode().is("ipvs") || gone.iter().all(|it| it.what.contains(&shop)), "{gone:#?}");
    ensure!(!gone.iter().any(|it| it.service.as_deref() == Some("test/web:http")), "{gone:#?}");
    Ok(())
}

fn the_process_that_runs_is_asked_and_says_what_it_repaired(s: &mut Subject) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("pointsman.sock");
    let socket = socket.to_string_lossy().into_owned();
    s.args(&["--socket", &socket]);
    s.serve_web(&["pod-1", "pod-2"])?;
    let asked = |s: &Subject, args: &[&str]| s.diff(User::Starter, &[&["--socket", &socket], args].concat());
    let equal = asked(s, &[])?;
    ensure!(equal.status == Some(0) && equal.text.starts_with("no difference"), "{equal:?}");
    let status = |s: &Subject| -> Result<Value> {
        let program = binary()?;
        let args = ["status", "-o", "json", "--socket", &socket];
        Ok(serde_json::from_str(&s.bed.node.output(&program.to_string_lossy(), &args)?)?)
    };
    ensure!(status(s)?["drift"]["count"] == 0);
    s.await_repair(|s| s.rules().edit(Edit::RemoveService))?;
    ensure!(asked(s, &["-o", "json"])?.differences()?.is_empty());
    let drift = &status(s)?["drift"];
    ensure!(
        drift["count"].as_u64() >= Some(1) && drift["last"][0]["operations"].as_u64() >= Some(1),
        "{drift}"
    );
    Ok(())
}
