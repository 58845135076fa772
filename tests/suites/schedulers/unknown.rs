//! A scheduler that the kernel does not have.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::{Subject, binary};

testbed::scenarios![Subject: an_unknown_scheduler_is_refused_with_those_that_there_are];

fn an_unknown_scheduler_is_refused_with_those_that_there_are(s: &mut Subject) -> Result<()> {
    s.args(&["--ipvs-scheduler", "nosuch"]);
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary()?);
    command.args(s.all_args()).arg("--manifests").arg(folder.path());
    // It ends at once, or this test hangs.
    let output = s.bed.node.run(|| command.output())?.context("cannot start pointsman")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "it ended with {}: {said}", output.status);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("nosuch")).collect();
    let [line] = lines[..] else { anyhow::bail!("not one line that names it:\n{said}") };
    ensure!(
        line.contains("the kernel offers") && line.contains("rr, "),
        "it does not say which there are: {line}"
    );
    Ok(())
}
