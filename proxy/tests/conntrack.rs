//! Connection tracking's parameters against the kernel, in a network namespace: what is asked for is what can be read.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use pointsman::conntrack::{Conntrack, Parameter, apply};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("what_is_asked_for_is_set_once", set_once),
        Test::new("what_is_not_asked_for_stays", left_alone),
        Test::new("the_limit_of_the_machine_is_not_ours_to_raise_here", of_the_machine),
        Test::new("what_is_read_only_is_told_of_with_what_to_do", read_only),
    ])
}

/// Everything that a network namespace has for itself.
const ASKED: Conntrack = Conntrack {
    max_per_core: 0,
    min: 0,
    tcp_established: Duration::from_secs(7_777),
    tcp_close_wait: Duration::from_secs(333),
    tcp_be_liberal: true,
    udp: Duration::from_secs(11),
    udp_stream: Duration::from_secs(222),
};

const NAMES: [&str; 5] = [
    "tcp_timeout_established",
    "tcp_timeout_close_wait",
    "tcp_be_liberal",
    "udp_timeout",
    "udp_timeout_stream",
];

fn values() -> Result<[u64; 5]> {
    let mut values = [0; 5];
    for (value, name) in values.iter_mut().zip(NAMES) {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        *value = fs::read_to_string(&path).with_context(|| path.clone())?.trim().parse()?;
    }
    Ok(values)
}

fn set_once() -> Result<()> {
    let outcome = apply(&ASKED);
    ensure!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    ensure!(outcome.set.len() == NAMES.len(), "{:?}", outcome.set);
    ensure!(values()? == [7_777, 333, 1, 11, 222], "{:?}", values()?);
    let again = apply(&ASKED);
    ensure!(again.set.is_empty() && again.refused.is_empty(), "{again:?}");
    Ok(())
}

fn left_alone() -> Result<()> {
    let before = values()?;
    let nothing = Conntrack {
        tcp_established: Duration::ZERO,
        tcp_close_wait: Duration::ZERO,
        tcp_be_liberal: false,
        udp: Duration::ZERO,
        udp_stream: Duration::ZERO,
        ..ASKED
    };
    let outcome = apply(&nothing);
    ensure!(outcome.set.is_empty() && outcome.refused.is_empty(), "{outcome:?}");
    ensure!(values()? == before, "{before:?} became {:?}", values()?);
    Ok(())
}

fn of_the_machine() -> Result<()> {
    let limit = || fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let before = limit()?;
    let enough = Conntrack { max_per_core: 1, min: 1, ..ASKED };
    ensure!(apply(&enough).refused.is_empty(), "a limit that is high enough is no trouble");
    let outcome = apply(&Conntrack { max_per_core: 1, min: u32::MAX, ..ASKED });
    let refused: Vec<_> = outcome.refused.iter().map(|refusal| refusal.change.parameter).collect();
    ensure!(refused == [Parameter::Max, Parameter::HashSize], "{:?}", outcome.refused);
    for refusal in &outcome.refused {
        let said = refusal.to_string();
        ensure!(said.contains("set it on the host") && said.lines().count() == 1, "{said}");
    }
    ensure!(limit()? == before, "it was raised for the whole machine");
    Ok(())
}

fn read_only() -> Result<()> {
    let no = None::<&str>;
    mount(Some("/proc/sys"), "/proc/sys", no, MsFlags::MS_BIND, no)?;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let rest = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(no, "/proc/sys", no, again | rest, no)?;
    let outcome = apply(&ASKED);
    ensure!(outcome.set.is_empty() && outcome.refused.len() == NAMES.len(), "{outcome:?}");
    let said = outcome.refused[0].to_string();
    for words in ["nf_conntrack_tcp_timeout_established", "instead of 7777", "read-only", "--init-only"] {
        ensure!(said.contains(words), "{words:?} is not in: {said}");
    }
    Ok(())
}
