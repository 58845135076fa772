//! In every mode and family.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use testbed::{POD_PORT, Subject, scenarios};

use crate::measured::{by_endpoint, is_exact, number, report};

scenarios![Subject:
    each_endpoint_gets_some_and_all_is_accounted_for,
];

const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];

fn each_endpoint_gets_some_and_all_is_accounted_for(s: &mut Subject) -> Result<()> {
    s.serve_web(&PODS)?;
    let (target, family) = (s.web_address().to_string(), s.family());
    let report = report(&s.bed.node, &[&target, "-n", "300", "-c", "8"])?;
    is_exact(&report, 300)?;
    ensure!(number(&report, "/connections/answered")? == 300, "{report}");
    let carried = s.mode().is_userspace();
    let told = if carried { "responder" } else { "conntrack" };
    ensure!(report["toldBy"] == told, "{report}");
    let who = |pod: &str| match pod.split_once('-') {
        _ if carried => pod.to_owned(),
        Some(("remote", _)) => {
            format!("{}", std::net::SocketAddr::new(s.bed.remote_pod(1).ip(family), POD_PORT))
        }
        _ => s
            .endpoint(pod)
            .address
            .parse()
            .map_or_else(|_| pod.to_owned(), |ip| std::net::SocketAddr::new(ip, POD_PORT).to_string()),
    };
    let counts = by_endpoint(&report)?;
    let expected: BTreeSet<String> = PODS.map(who).into();
    ensure!(counts.keys().eq(expected.iter()), "expected {expected:?}: {report}");
    // A third of 300, give or take more than chance does in 10^12 runs.
    ensure!(counts.values().all(|count| (40..180).contains(count)), "{counts:?}");
    // Round robin is more even than chance.
    let verdicts: &[&str] = if carried { &["inTurn"] } else { &["chance", "inTurn", "uneven"] };
    ensure!(verdicts.iter().any(|verdict| report["spread"]["verdict"] == *verdict), "{report}");
    ensure!(report["service"] == "test/web:http" && report["connectTime"]["count"] == 300, "{report}");
    Ok(())
}
