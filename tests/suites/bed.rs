//! The bed itself: before a proxy is blamed, the network must be as it should.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::suite::{Test, run, run_bounded};
use testbed::{Bed, Family, Layout, Outcome, POD_PORT, Place, Protocol, isolation};

fn main() -> ExitCode {
    run(vec![
        Test::new("everyone_reaches_pods_and_is_seen_as_themselves", everyone_reaches_pods),
        Test::new("a_bridged_bed_works_alike", a_bridged_bed_works_alike),
        Test::new("refusal_rejection_and_silence_are_told_apart", refusal_rejection_and_silence),
        Test::new("namespaces_are_our_own", namespaces_are_our_own),
        Test::new("ipvs_that_is_not_to_be_had_is_refused_with_what_works", ipvs_is_refused),
        Test::new("a_failing_test_fails_and_a_hanging_one_is_ended", failing_and_hanging),
        Test::new("always_fails_for_the_test_above", || match std::env::var_os("POINTSMAN_BED_FAILS") {
            Some(_) => anyhow::bail!("as it should"),
            None => Ok(()),
        }),
        Test::new("always_hangs_for_the_test_above", || match std::env::var_os("POINTSMAN_BED_HANGS") {
            Some(_) => loop {
                std::thread::park();
            },
            None => Ok(()),
        }),
    ])
}

fn everyone_reaches_pods() -> Result<()> {
    check_reachability(&Bed::new(Layout::Routed, 2, 1)?)
}

fn a_bridged_bed_works_alike() -> Result<()> {
    check_reachability(&Bed::new(Layout::Bridged, 2, 1)?)
}

fn check_reachability(bed: &Bed) -> Result<()> {
    for family in Family::BOTH {
        let froms = [
            (Place::of(bed.pod_namespace(1)), bed.pod(1).ip(family)),
            (Place::of(&bed.node), family.node()),
            (Place::of(&bed.client), family.client()),
            (Place::of(&bed.client).from_address(family.foreign_client()), family.foreign_client()),
            (Place::of(&bed.peer), family.peer()),
        ];
        for (from, seen_as) in froms {
            for pod in [bed.pod(2), bed.remote_pod(1)] {
                // The other node reaches its own pods without leaving, as whichever address is nearest.
                if from.namespace.name() == "peer" && pod.node == "peer" {
                    continue;
                }
                for protocol in Protocol::BOTH {
                    let outcome = from.connect(protocol, (pod.ip(family), POD_PORT).into())?;
                    let expected = Outcome::Answered { by: pod.name.clone(), seen_as };
                    ensure!(outcome == expected, "{from:?} to {pod:?}: {outcome}, not {expected}");
                }
            }
        }
    }
    Ok(())
}

fn refusal_rejection_and_silence() -> Result<()> {
    let bed = Bed::new(Layout::Routed, 1, 0)?;
    let rules = "table inet t { chain c { type filter hook forward priority 0; \
                 th dport 81 reject; th dport 82 drop; }; }";
    bed.node.output("nft", &[rules])?;
    let from = Place::of(&bed.client);
    for family in Family::BOTH {
        for (port, expected) in [(80, Outcome::Refused), (81, Outcome::Refused), (82, Outcome::Silence)] {
            for protocol in Protocol::BOTH {
                let outcome = from.connect_briefly(protocol, (bed.pod(1).ip(family), port).into())?;
                ensure!(outcome == expected, "{protocol:?} to port {port}: {outcome}, not {expected}");
            }
        }
    }
    Ok(())
}

fn namespaces_are_our_own() -> Result<()> {
    let bed = Bed::new(Layout::Routed, 0, 0)?;
    let links = bed.client.output("ip", &["-o", "link"])?;
    ensure!(links.lines().count() == 2, "loopback and eth0, not:\n{links}");
    // The first process of a process namespace: whatever it leaves behind goes with it.
    ensure!(std::process::id() == 1, "this process is {}, not 1", std::process::id());
    // Temporary files too: they are in memory that only this mount namespace knows.
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let folder = std::env::temp_dir();
    let is_ours = |line: &str| line.split(' ').nth(1).is_some_and(|at| folder == std::path::Path::new(at));
    let last = mounts.lines().rfind(|line| is_ours(line)).unwrap_or_default();
    ensure!(
        last.starts_with("tmpfs "),
        "temporary files are in {}, which is no mount of ours",
        folder.display()
    );
    Ok(())
}

fn failing_and_hanging() -> Result<()> {
    let short = Duration::from_secs(2);
    let mut fails = isolation::this_program(&[])?;
    fails.env("POINTSMAN_BED_FAILS", "1");
    let failed = run_bounded(fails, "always_fails_for_the_test_above", short).err();
    let message = failed.and_then(|failed| failed.message().map(str::to_owned)).unwrap_or_default();
    ensure!(message.contains("as it should"), "a failing test said {message:?}");
    let mut hangs = isolation::this_program(&[])?;
    hangs.env("POINTSMAN_BED_HANGS", "1");
    let failed = run_bounded(hangs, "always_hangs_for_the_test_above", short).err();
    let message = failed.and_then(|failed| failed.message().map(str::to_owned)).unwrap_or_default();
    ensure!(message.contains("hung"), "a hanging test said {message:?}");
    Ok(())
}

/// Either the kernel has no IPVS, or it is not for root of a user namespace.
fn ipvs_is_refused() -> Result<()> {
    let manifests = tempfile::tempdir()?;
    let mut command = std::process::Command::new(testbed::binary()?);
    command.args(["--proxy-mode=ipvs", "--hostname-override=node", "--manifests"]).arg(manifests.path());
    let output = command.args(["--healthz-bind-address=", "--metrics-bind-address="]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.lines().count() == 1, "{}: {said}", output.status);
    let reason = ["modules ip_vs and ip_vs_rr", "CAP_NET_ADMIN"].iter().any(|reason| said.contains(reason));
    let hint = "(--proxy-mode=nftables or iptables would work here)";
    ensure!(reason && said.contains(hint), "{said}");
    Ok(())
}
