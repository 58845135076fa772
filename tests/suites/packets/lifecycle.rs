//! Restarts, repairs, churn, and what is not ours.

use std::fs;

use anyhow::{Context, Result, ensure};
use testbed::cluster::{Service, Slice};
use testbed::rules::Edit;
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{POD_PORT, Protocol, Subject, binary, under_traffic};

testbed::scenarios![
    Subject:
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
    rules_of_others_are_left_alone,
    cleanup_removes_what_is_ours_and_nothing_else,
    a_broken_manifest_leaves_everything_in_force,
    saving_the_same_again_changes_nothing,
    several_files_are_served_together,
    odd_names_harm_nobody,
];

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

fn a_restart_with_nothing_new_changes_nothing(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    // Slots are where changes left them, not where a fresh start would put them.
    let slice = s.slice("web", &["pod-2", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    let slice = s.slice("web", &["pod-1", "pod-2", "remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = s.last_operations()?;
    ensure!(operations == 0, "a restart with nothing new took {operations} operations");
    s.check_all_kinds()
}

fn a_restart_finds_what_changed_meanwhile(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
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
    s.serve_all_kinds()?;
    s.proxy()?.kill()?;
    s.rules().damage()?;
    s.restart()?;
    s.check_all_kinds()?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = s.last_operations()?;
    ensure!(operations == 0, "after the repair, {operations} operations were left to do");
    Ok(())
}

fn what_others_damage_is_repaired_while_it_runs(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    // Until it listens, which it does after the first sync, it knows of changes but not whose they are.
    s.proxy()?.await_quiet()?;
    s.await_repair(|s| s.rules().edit(Edit::RemoveService))?;
    s.check_all_kinds()?;
    let blamed = s.proxy()?.await_line_with("repairing")?;
    ensure!(s.rules().is_blamed_in(&blamed), "the log does not say who did it: {blamed}");
    Ok(())
}

fn rules_that_others_flush_come_back(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    for _ in 0..2 {
        s.await_repair(|s| s.rules().edit(Edit::FlushEverything))?;
        s.check_all_kinds()?;
    }
    Ok(())
}

fn changes_of_others_elsewhere_disturb_nobody(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    // Until it listens, any change of nftables might have been one of ours.
    s.proxy()?.await_quiet()?;
    s.rules().change_elsewhere()?;
    // Our own changes are no disturbance either. Had one been noticed, its line would stand before this sync's.
    s.cluster.delete("sticky");
    s.sync()?;
    let log = s.proxy()?.log();
    ensure!(!log.contains("repairing"), "something was repaired that nobody damaged:\n{log}");
    Ok(())
}

fn rules_of_another_layout_are_replaced(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    s.proxy()?.kill()?;
    s.rules().leave_another_layout()?;
    s.restart()?;
    s.check_all_kinds()?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = s.last_operations()?;
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
    s.serve_all_kinds()?;
    let status = s.proxy()?.terminate()?;
    ensure!(status.success(), "it ended with {status}");
    s.check_all_kinds()
}

fn the_ruleset_can_be_listed_and_read_back(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    let slice = s.slice("local", &["remote-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.rules().check_listable()
}

fn rules_of_others_are_left_alone(s: &mut Subject) -> Result<()> {
    s.rules().add_foreign()?;
    let before = s.rules().foreign()?;
    s.serve_all_kinds()?;
    s.proxy()?.kill()?;
    s.restart()?;
    s.cluster.delete("web");
    s.sync()?;
    let after = s.rules().foreign()?;
    ensure!(after == before, "what is not ours was changed:\n{before}became\n{after}");
    Ok(())
}

fn cleanup_removes_what_is_ours_and_nothing_else(s: &mut Subject) -> Result<()> {
    s.rules().add_foreign()?;
    let before = s.rules().listing()?;
    s.serve_all_kinds()?;
    s.proxy()?.terminate()?;
    let program = binary()?;
    let program = program.to_str().context("an odd path")?;
    s.bed.node.output(program, &["--cleanup"])?;
    let after = s.rules().listing()?;
    ensure!(after == before, "cleanup left or took too much:\n{before}became\n{after}");
    // There is nothing left to do, and that is no error.
    s.bed.node.output(program, &["--cleanup"])?;
    s.unanswered(s.pod(3), s.web_address())
}

fn a_broken_manifest_leaves_everything_in_force(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    s.proxy()?.save("more.yaml", "kind: Service\napiVersion: v1\nmetadata: {name: [\n")?;
    s.proxy()?.await_line_with("more.yaml:")?;
    s.check_all_kinds()?;
    let half = s.cluster.manifest();
    s.proxy()?.save("cluster.json", &half[..half.len() / 2])?;
    s.check_all_kinds()?;
    // Once it is whole again, it counts again.
    s.cluster.delete("local");
    s.sync()?;
    s.unanswered(s.client(), (s.family().load_balancer_ip(6), 80))
}

fn saving_the_same_again_changes_nothing(s: &mut Subject) -> Result<()> {
    s.serve_all_kinds()?;
    s.sync()?;
    let operations = s.last_operations()?;
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
    s.rules().check_listable()?;
    s.proxy()?.kill()?;
    s.restart()?;
    let operations = s.last_operations()?;
    ensure!(operations == 0, "odd names are not known again: {operations} operations");
    Ok(())
}
