//! Restarts, repairs, churn, and what is not ours.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use testbed::cluster::{Service, Slice};
use testbed::{POD_PORT, Place, Protocol, binary};

use crate::subject::Seen::{AsItself, Masqueraded};
use crate::subject::{Subject, answerer};

crate::scenarios![
    a_crash_and_restart_under_traffic_fails_no_connection,
    endpoints_change_under_traffic_and_no_connection_fails,
    a_restart_with_nothing_new_changes_nothing,
    a_restart_finds_what_changed_meanwhile,
    a_restart_repairs_what_others_damaged,
    rules_of_another_layout_are_replaced,
    what_others_damage_is_repaired_while_it_runs,
    rules_that_others_flush_come_back,
    changes_of_others_elsewhere_disturb_nobody,
    a_restart_with_other_settings_changes_what_they_change,
    an_ordinary_end_leaves_everything_in_force,
    the_ruleset_can_be_listed_and_read_back,
    tables_of_others_are_left_alone,
    cleanup_removes_what_is_ours_and_nothing_else,
    a_broken_manifest_leaves_everything_in_force,
    saving_the_same_again_changes_nothing,
    several_files_are_served_together,
    odd_names_harm_nobody,
];

/// Connects without pause while something else is done; fails if any connection does.
fn under_traffic(
    place: Place<'_>,
    to: std::net::SocketAddr,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (done, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let outcome = place.connect(Protocol::Tcp, to)?;
                answerer(&outcome)?;
                connections.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), anyhow::Error>(())
        });
        // The traffic is on before anything is done.
        while connections.load(Ordering::Relaxed) < 10 && !traffic.is_finished() {
            thread::yield_now();
        }
        let result = meanwhile();
        let enough = connections.load(Ordering::Relaxed) + 10;
        while connections.load(Ordering::Relaxed) < enough && !traffic.is_finished() {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        let traffic = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(traffic.context("a connection failed"))
    })
}

fn a_crash_and_restart_under_traffic_fails_no_connection(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2", "remote-1"])?;
    // The traffic holds on to the bed while the proxy is restarted.
    let mut proxy = s.take_proxy()?;
    let result = under_traffic(s.pod(3).place, s.web_address(), || {
        for _ in 0..3 {
            proxy.kill()?;
            proxy.start_again(&s.bed.node)?;
        }
        Ok(())
    });
    s.give_proxy(proxy);
    result
}

fn endpoints_change_under_traffic_and_no_connection_fails(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2", "remote-1"])?;
    let proxy = s.take_proxy()?;
    let mut cluster = s.cluster.clone();
    let sets = [&["pod-1"][..], &["pod-1", "remote-1"], &["pod-2", "remote-2", "pod-1"], &["remote-2"]];
    let result = under_traffic(s.pod(3).place, s.web_address(), || {
        for pods in sets.iter().cycle().take(40) {
            cluster.put_slice(s.slice("web", pods));
            proxy.serve(&cluster)?;
        }
        Ok(())
    });
    s.give_proxy(proxy);
    result
}

fn operations(line: &str) -> Result<usize> {
    let number = line.split("operations=").nth(1).context("the line does not say how many operations")?;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    number.parse().context("operations is no number")
}

fn last_operations(s: &mut Subject) -> Result<usize> {
    operations(&s.proxy()?.last_line_with("synced").context("it never synced")?)
}

/// A cluster that uses about everything.
fn serve_all_kinds(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080).external_ip(family.external_ip(5));
    let local = Service::new("local", family.cluster_ip(11)).tcp("http", 80).node_port(30090);
    let local = local.load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
    let sticky = Service::new("sticky", family.cluster_ip(12)).tcp("http", 80).affinity(600);
    let empty = Service::new("empty", family.cluster_ip(13)).tcp("http", 80);
    let slices = ["web", "local", "sticky"].map(|name| s.slice(name, &["pod-1", "pod-2", "remote-1"]));
    s.cluster.put(web).put(local.external_local()).put(sticky).put(empty);
    for slice in slices {
        s.cluster.put_slice(slice);
    }
    s.sync()
}

fn check_all_kinds(s: &Subject) -> Result<()> {
    let family = s.family();
    let all = ["pod-1", "pod-2", "remote-1"];
    s.reaches(s.pod(3), s.web_address(), &all, AsItself)?;
    s.reaches(s.client(), (family.node(), 30080), &all, Masqueraded)?;
    s.reaches(s.client(), (family.load_balancer_ip(6), 80), &["pod-1", "pod-2"], AsItself)?;
    s.dropped(s.foreign_client(), (family.load_balancer_ip(6), 80))?;
    s.refused(s.pod(3), (family.cluster_ip(13), 80))?;
    let sticky = s.pod(3).place.connect_times(Protocol::Tcp, (family.cluster_ip(12), 80).into(), 10)?;
    ensure!(sticky.len() == 1, "the client does not stay: {sticky:?}");
    Ok(())
}

fn a_restart_with_nothing_new_changes_nothing(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    // Slots are where changes left them, not where a fresh start would put them.
    let slice = s.slice("web", &["pod-2", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    let slice = s.slice("web", &["pod-1", "pod-2", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = last_operations(s)?;
    ensure!(operations == 0, "a restart with nothing new took {operations} operations");
    check_all_kinds(s)
}

fn a_restart_finds_what_changed_meanwhile(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.cluster.delete("local").delete_slice("local");
    let slice = s.slice("web", &["remote-2"]);
    s.cluster.put_slice(slice);
    let manifest = s.cluster.manifest();
    fs::write(s.proxy()?.folder().join("cluster.json"), manifest)?;
    s.restart()?;
    s.reaches(s.pod(3), s.web_address(), &["remote-2"], AsItself)?;
    s.unanswered(s.client(), (s.family().load_balancer_ip(6), 80))?;
    s.refused(s.client(), (s.family().node(), 30090))
}

fn a_restart_repairs_what_others_damaged(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.damage()?;
    s.restart()?;
    check_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = last_operations(s)?;
    ensure!(operations == 0, "after the repair, {operations} operations were left to do");
    Ok(())
}

/// Waits for the repair that follows what was done to the rules.
fn await_repair(s: &mut Subject, doing: impl FnOnce(&Subject) -> Result<()>) -> Result<()> {
    let proxy = s.take_proxy()?;
    let repaired = proxy.await_sync_after(|| doing(s));
    s.give_proxy(proxy);
    repaired
}

fn what_others_damage_is_repaired_while_it_runs(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    await_repair(s, Subject::damage_slightly)?;
    check_all_kinds(s)?;
    let blamed = s.proxy()?.await_line_with("repairing")?;
    ensure!(blamed.contains("nft (process"), "the log does not say who did it: {blamed}");
    Ok(())
}

fn rules_that_others_flush_come_back(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    for _ in 0..2 {
        await_repair(s, |s| s.bed.node.output("nft", &["flush", "ruleset"]).map(drop))?;
        check_all_kinds(s)?;
    }
    Ok(())
}

fn changes_of_others_elsewhere_disturb_nobody(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.bed.node.output("nft", &[FOREIGN])?;
    s.bed.node.output("nft", &["delete table inet foreign"])?;
    // Our own changes are no disturbance either. Had one been noticed, its line would stand before this sync's.
    s.cluster.delete("sticky");
    s.sync()?;
    let log = s.proxy()?.log();
    ensure!(!log.contains("repairing"), "something was repaired that nobody damaged:\n{log}");
    Ok(())
}

fn rules_of_another_layout_are_replaced(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.leave_another_layout()?;
    s.restart()?;
    check_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = last_operations(s)?;
    ensure!(operations == 0, "after the replacement, {operations} operations were left to do");
    Ok(())
}

fn a_restart_with_other_settings_changes_what_they_change(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.args(&["--masquerade-all"]);
    s.sync()?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], Masqueraded)?;
    Ok(())
}

fn an_ordinary_end_leaves_everything_in_force(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    let status = s.proxy()?.terminate()?;
    ensure!(status.success(), "it ended with {status}");
    check_all_kinds(s)
}

fn the_ruleset_can_be_listed_and_read_back(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    let slice = s.slice("local", &["remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    // A tool that stumbles over one table shows nobody's rules any more: every line must make sense to it.
    let list =
        |args: &'static [&str]| s.bed.node.run(|| std::process::Command::new("nft").args(args).output());
    let text = list(&["list", "ruleset"])??;
    let complaints = String::from_utf8_lossy(&text.stderr);
    ensure!(text.status.success() && complaints.is_empty(), "nft list ruleset: {complaints}");
    let json = list(&["--json", "list", "ruleset"])??;
    ensure!(json.status.success(), "nft --json list ruleset: {}", String::from_utf8_lossy(&json.stderr));
    serde_json::from_slice::<serde_json::Value>(&json.stdout).context("nft prints no JSON")?;
    Ok(())
}

const FOREIGN: &str = "table inet foreign { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; \
                       chain c { type filter hook forward priority 10; ip daddr @s drop; }; }";

fn tables_of_others_are_left_alone(s: &mut Subject) -> Result<()> {
    s.bed.node.output("nft", &[FOREIGN])?;
    let foreign = |s: &Subject| s.bed.node.output("nft", &["list", "table", "inet", "foreign"]);
    let before = foreign(s)?;
    serve_all_kinds(s)?;
    s.proxy()?.kill()?;
    s.restart()?;
    s.cluster.delete("web");
    s.sync()?;
    ensure!(foreign(s)? == before, "a foreign table was changed");
    Ok(())
}

fn cleanup_removes_what_is_ours_and_nothing_else(s: &mut Subject) -> Result<()> {
    s.bed.node.output("nft", &[FOREIGN])?;
    let before = s.bed.node.output("nft", &["list", "ruleset"])?;
    serve_all_kinds(s)?;
    s.proxy()?.terminate()?;
    let program = binary()?;
    let program = program.to_str().context("an odd path")?;
    s.bed.node.output(program, &["--cleanup"])?;
    ensure!(s.bed.node.output("nft", &["list", "ruleset"])? == before, "cleanup left or took too much");
    // There is nothing left to do, and that is no error.
    s.bed.node.output(program, &["--cleanup"])?;
    s.unanswered(s.pod(3), s.web_address())
}

fn a_broken_manifest_leaves_everything_in_force(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.proxy()?.save("more.yaml", "kind: Service\napiVersion: v1\nmetadata: {name: [\n")?;
    s.proxy()?.await_line_with("more.yaml:")?;
    check_all_kinds(s)?;
    let half = s.cluster.manifest();
    s.proxy()?.save("cluster.json", &half[..half.len() / 2])?;
    check_all_kinds(s)?;
    // Once it is whole again, it counts again.
    s.cluster.delete("local");
    s.sync()?;
    s.unanswered(s.client(), (s.family().load_balancer_ip(6), 80))
}

fn saving_the_same_again_changes_nothing(s: &mut Subject) -> Result<()> {
    serve_all_kinds(s)?;
    s.sync()?;
    let operations = last_operations(s)?;
    ensure!(operations == 0, "the same objects again took {operations} operations");
    Ok(())
}

fn several_files_are_served_together(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut more = testbed::Cluster::default();
    more.put(Service::new("more", s.family().cluster_ip(11)).tcp("http", 80));
    more.put_slice(s.slice("more", &["pod-2"]));
    s.proxy()?.save("more.json", &more.manifest())?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1"], AsItself)?;
    s.reaches(s.pod(3), (s.family().cluster_ip(11), 80), &["pod-2"], AsItself)?;
    Ok(())
}

fn odd_names_harm_nobody(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let names =
        ["\"; flush ruleset; \"", "line\nbreak", "a\u{0}b", "\u{1f682}", &"long".repeat(90), "-", "$(id)"];
    for (name, number) in names.iter().zip(20u8..) {
        let service = Service::new(name, family.cluster_ip(number)).tcp(name, 80).affinity(600);
        let slice = Slice::new(name, family, [s.endpoint("pod-1")]).port(name, Protocol::Tcp, POD_PORT);
        s.cluster.put(service).put_slice(slice);
    }
    s.serve_web(&["pod-2"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-2"], AsItself)?;
    for number in (20u8..).take(names.len()) {
        s.reaches(s.pod(3), (family.cluster_ip(number), 80), &["pod-1"], AsItself)?;
    }
    s.bed.node.output("nft", &["list", "ruleset"])?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = last_operations(s)?;
    ensure!(operations == 0, "odd names are not known again: {operations} operations");
    Ok(())
}
