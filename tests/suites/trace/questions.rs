//! Questions that cannot be answered, each told in a line.

use anyhow::{Result, ensure};
use testbed::{Subject, User, binary, program_as, trace};

testbed::scenarios![
    Subject:
    what_cannot_be_answered_is_told_in_a_line,
    privileges_that_lack_are_told_in_a_line,
    people_are_shown_a_table,
];

/// What a failed question says.
fn complaint(s: &Subject, args: &[&str]) -> Result<String> {
    let output = trace::run(&s.bed.node, args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.trim().lines().count() == 1, "{args:?}: {said:?}");
    Ok(said)
}

fn what_cannot_be_answered_is_told_in_a_line(s: &mut Subject) -> Result<()> {
    let web = s.web().tcp("metrics", 9000);
    s.serve(web, &["pod-1"])?;
    let web = s.web_address().to_string();
    for (args, parts) in [
        (&["test/webb:http"][..], &["no Service test/webb", "test/web?"][..]),
        (&["web"], &["several ports", "http (80/TCP)", "metrics (9000/TCP)"]),
        (&["web:https"], &["no port", "http (80/TCP)"]),
        (&["172.30.0.10"], &["has no port", "172.30.0.10:80"]),
        (&["-s", "pod-1", &web], &["--source", "outside"]),
        (&["-s", "node", "a/b/c/d:e"], &["ADDRESS:PORT"]),
        (&["--socket", "/nowhere", "test/web:http"], &["running pointsman", "/nowhere"]),
    ] {
        let said = complaint(s, args)?;
        ensure!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
    }
    Ok(())
}

fn privileges_that_lack_are_told_in_a_line(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let mut command = program_as(User::Container(&[]), &binary()?);
    command.args(["trace", &s.web_address().to_string()]);
    let output = s.bed.node.run(|| command.output())??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("CAP_NET_ADMIN") && said.trim().lines().count() == 1, "{said}");
    Ok(())
}

fn people_are_shown_a_table(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    let args = ["-s", &s.pod(3).ip.to_string(), &s.web_address().to_string()];
    let text = String::from_utf8(trace::run(&s.bed.node, &args)?.stdout)?;
    let pod = s.bed.pod(1).ip(s.family()).to_string();
    for part in ["test/web:http, ClusterIP", "one of 2 endpoints", "0.500", &pod, "node (this)", "peer"] {
        ensure!(text.contains(part), "{part} is missing: {text}");
    }
    ensure!(!text.contains('\u{1b}'), "colour is for terminals: {text}");
    Ok(())
}
